#!/bin/sh
# Builds what an image holds, in /opt/kniv-serve and /models, with the python3 of its base; from the sources' folder.
set -eu

python3 -m venv /opt/kniv-serve
/opt/kniv-serve/bin/pip install --no-cache-dir ./client .
/opt/kniv-serve/bin/python -m compileall -q /opt/kniv-serve/lib

# The model's graph is rewritten here once, for the server may write nothing.
mkdir /models
cp -R model_repository/kniv-mini /models/kniv-mini
/opt/kniv-serve/bin/kniv-serve optimise --model-repository /models kniv-mini
