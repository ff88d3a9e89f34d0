"""The steps of deploy/Dockerfile, run without Docker: `make package-check`.

The image's folders become folders of a temporary one, its base image the Python that runs the tests. What the build
copies is thrown away before the server starts, and the server runs without rights and with nothing that it may write
to but its own /tmp.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PATIENCE = 60.0

# Root without a capability may write only where the modes of its files say so, as any user.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if os.geteuid() == 0 else []

pytestmark = pytest.mark.skipif("KNIV_PACKAGE_CHECK" not in os.environ, reason="asks the network: make package-check")


@dataclass(frozen=True)
class Stage:
    """A stage of a Dockerfile: its instructions with their arguments, in order."""

    steps: list[tuple[str, str]]

    def all(self, instruction: str) -> list[str]:
        return [argument for name, argument in self.steps if name == instruction]

    def one(self, instruction: str) -> str:
        (argument,) = self.all(instruction)
        return argument


def stages() -> dict[str, Stage]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    found: dict[str, Stage] = {}
    for line in text.replace("\\\n", " ").splitlines():
        instruction, _, argument = line.strip().partition(" ")
        if instruction == "FROM":
            stage = found[argument.split(" AS ")[1]] = Stage([])
        elif instruction:
            stage.steps.append((instruction, argument.strip()))
    return found


def copy(target: Path) -> None:
    """COPY of all that .dockerignore lets in: it lists that, and then patterns for any depth of what stays out."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    left_out = shutil.ignore_patterns(*(line.removeprefix("**/") for line in lines if line.startswith("**/")))
    for name in (line[1:] for line in lines if line.startswith("!")):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=left_out, symlinks=True)
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


@dataclass(frozen=True)
class Image:
    """What the build leaves: a folder that stands for the image's root, and what runs in it."""

    root: Path
    stage: Stage

    def path(self, text: str) -> str:
        """A text with the image's folders in it, for this machine."""
        return re.sub(r"(?<![\w.])/(?=(opt|models)\b)", f"{self.root}/", text)

    @property
    def environment(self) -> dict[str, str]:
        settings = " ".join(self.stage.all("ENV"))
        values = dict(entry.split("=", 1) for entry in shlex.split(self.path(settings)))
        values["PATH"] = values["PATH"].replace("$PATH", os.defpath)
        return values | {"TMPDIR": str(self.root / "tmp"), "HOME": str(self.root)}

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        """A process as the image runs it, but for the user's number."""
        program = shutil.which(command[0], path=self.environment["PATH"])
        assert program is not None, command
        return subprocess.Popen(
            [*WITHOUT_RIGHTS, program, *command[1:]],
            env=self.environment | more,
            cwd=self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    root, found = tmp_path_factory.mktemp("image"), stages()
    built = Image(root, found["cpu"])
    for target in ("cpu", "cuda"):
        assert found[f"{target}-build"].steps == [("WORKDIR", "/src"), ("COPY", ". ."), ("RUN", "sh deploy/build.sh")]
        copied = [f"--from={target}-build {folder} {folder}" for folder in ("/opt/kniv-serve", "/models")]
        assert found[target].all("COPY") == copied
    source = root / "src"
    copy(source)
    script = built.path((source / "deploy" / "build.sh").read_text(encoding="utf-8"))
    steps = re.sub(r"^python3(?= )", shlex.quote(sys.executable), script, flags=re.M)
    subprocess.run(["/bin/sh", "-c", steps], cwd=source, check=True)
    shutil.rmtree(source)
    subprocess.run(["chmod", "-R", "a-w", root], check=True)
    root.chmod(0o755)
    (root / "tmp").mkdir()
    root.chmod(0o555)
    try:
        yield built
    finally:
        subprocess.run(["chmod", "-R", "u+w", root], check=True)
        shutil.rmtree(root)


def tree(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if root / "tmp" not in path.parents}


def test_the_image_holds_the_program_and_no_more(image: Image) -> None:
    listed = image.start("python", "-m", "pip", "list", "--format=freeze").communicate(timeout=PATIENCE)[0]
    names = {line.partition("==")[0].lower() for line in listed.splitlines()}
    assert {"kniv-serve", "kniv-client"} <= names
    assert not {"torch", "transformers", "pytest", "spacy", "mypy"} & names
    code = "import kniv.server, kniv.client, kniv.v1; print(*kniv.server.__path__, *kniv.client.__path__)"
    told, problem = image.start("python", "-c", code).communicate(timeout=PATIENCE)
    assert not problem
    assert all(Path(found).is_relative_to(image.root / "opt") for found in told.split())


def test_the_image_serves_without_rights_and_writes_nothing(image: Image) -> None:
    for folder in (".", "models/kniv-mini", "models/kniv-mini/1"):
        attempt = image.start("python", "-c", f"open('{folder}/new', 'w')")
        assert "Permission denied" in attempt.communicate(timeout=PATIENCE)[1]
    before = tree(image.root)
    command = [*re.findall(r'"(.*?)"', image.stage.one("ENTRYPOINT")), "--port", "0"]
    server = image.start(*command)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        match = re.fullmatch(r"ready on (\S+)\n", line)
        assert match, f"{line}{server.communicate()}"
        probe = re.findall(r'"(.*?)"', image.stage.one("HEALTHCHECK"))
        for arguments in (probe, ["kniv", "annotate", "-"]):
            client = image.start(*arguments, KNIV_TARGET=match[1])
            answer, problem = client.communicate("Did Ann call?", timeout=PATIENCE)
            assert (client.returncode, problem) == (0, ""), answer
        assert "Ann" in answer
        server.send_signal(getattr(signal, image.stage.one("STOPSIGNAL")))
        _, log = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0, log
        assert not re.search("WARNING|ERROR|made again at every start", log), log
    finally:
        server.kill()
        server.wait()
    assert tree(image.root) == before
