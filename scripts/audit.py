"""Ask the Python Packaging Advisory Database about what is installed: ``audit.py PIP_AUDIT PYTHON``.

Ends with 0 if nothing is known, 1 if something is, and 2 if nobody could be asked.
"""

from __future__ import annotations

import json
import subprocess
import sys

_SITE = 'import sysconfig; print(sysconfig.get_path("purelib"))'


def main(pip_audit: str, python: str) -> int:
    """Audit the environment of ``python``."""
    site = subprocess.run([python, "-c", _SITE], capture_output=True, text=True, check=True).stdout.strip()
    command = [pip_audit, "--format", "json", "--progress-spinner", "off", "--skip-editable", "--path", site]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return _nobody((done.stderr.strip().splitlines() or ["no reason was given"])[-1])
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return _nobody("the index in use knows advisories for none of the packages")
    found = 0
    for package in packages:
        for advisory in package.get("vulns", []):
            found += 1
            mended = ", ".join(advisory["fix_versions"]) or "no release yet"
            print(f"{package['name']} {package['version']}: {advisory['id']}; mended in {mended}")
    print(f"{len(packages) - len(skipped)} packages, {found} advisories")
    if skipped:
        print(f"not looked at, as the database does not know them: {', '.join(skipped)}")
    return 1 if found else 0


def _nobody(why: str) -> int:
    print(f"audit: no advisories could be had ({why}); try again with access to PyPI", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
