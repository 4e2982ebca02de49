"""Builds images and runs containers, with no daemon and no registry of images.

Owns a storage folder of its own, the images in it, and every container that it starts; each ends
with the block. It needs root, and buildah, podman, runc and mmdebstrap of Debian. The base image is
made by mmdebstrap, because the one that the Dockerfile names may be out of reach here. It is kept
in the folder, so that only the first run has to make it.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TOOLS: Final = ("buildah", "podman", "runc", "mmdebstrap")
BASE: Final = "localhost/python-base:bookworm"
PACKAGES: Final = "python3,python3-venv,python3-pip,ca-certificates"
WAIT_S: Final = 180.0  # generous: the machine may be busy
BUILD_S: Final = 1800.0
POLL_S: Final = 0.2

CONTAINERS: Final = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE: Final = """\
[storage]
driver = "overlay"
runroot = "{folder}/run"
graphroot = "{folder}/store"
"""
BASE_FILE: Final = """\
FROM scratch
ADD rootfs.tar /
RUN ln -s python3 /usr/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
"""
# What a build needs of this machine to reach its package index: certificates and pip's settings.
MOUNTED: Final = ("/etc/ssl/certs", "/etc/pip.conf")


def missing() -> list[str]:
    """What has to be there first; empty if nothing is missing."""
    return [tool for tool in TOOLS if shutil.which(tool) is None] + (["root"] if os.geteuid() != 0 else [])


class Engine:
    """Images and containers in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Container] = []
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "containers.conf").write_text(CONTAINERS)
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
        self.env = {
            **os.environ,
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def call(self, *command: str, timeout_s: float = WAIT_S, check: bool = True, cwd: Path | None = None) -> str:
        """What the command printed. Raises `AssertionError` with its end if it fails."""
        ran = subprocess.run(
            command,
            env=self.env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or ran.returncode == 0, f"{' '.join(command)}: {ran.returncode}\n{ran.stdout[-3000:]}"
        return ran.stdout.strip()

    def base(self) -> str:
        """The base image; it is made if it is not there."""
        if BASE not in self.call("buildah", "images", "--format", "{{.Name}}:{{.Tag}}"):
            tar = self.folder / "rootfs.tar"
            if not tar.exists():
                part = tar.with_suffix(".part.tar")
                self.call(
                    "mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(part),
                    timeout_s=BUILD_S,
                )  # fmt: skip
                part.rename(tar)
            (self.folder / "Base").write_text(BASE_FILE)
            self.build(BASE, self.folder, "--file", str(self.folder / "Base"))
            tar.unlink()
        return BASE

    def build(self, tag: str, folder: Path, *options: str) -> None:
        """Build the folder's Dockerfile. Images are taken from the engine's own, never pulled."""
        mounts = [f"--volume={path}:{path}:ro" for path in MOUNTED if Path(path).exists()]
        self.call(
            "buildah", "bud", "--layers", "--pull-never", "--network=host", "--format=docker", *mounts,
            *options, f"--tag={tag}", str(folder), timeout_s=BUILD_S,
        )  # fmt: skip

    def inspect(self, image: str, form: str) -> str:
        return self.call("podman", "image", "inspect", image, "--format", form)

    def run(self, name: str, image: str, args: Sequence[str], env: dict[str, str], *mounts: str) -> "Container":
        """Start a container as the chart has Kubernetes start it, on this machine's network."""
        data = self.folder / "data" / name
        data.mkdir(parents=True, exist_ok=True)
        os.chown(data, 10001, 10001)
        options = [f"--env={key}={value}" for key, value in env.items()]
        options += [f"--volume={mount}" for mount in (f"{data}:/var/lib/mesh", *mounts)]
        self.call("podman", "rm", "--force", "--ignore", name)
        self.call(
            "podman", "run", "--detach", f"--name={name}", f"--hostname={name}", "--network=host", "--read-only",
            "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", *options, image, *args,
        )  # fmt: skip
        container = Container(self, name)
        self.started.append(container)
        return container

    def end(self) -> None:
        """Remove every container that was started, and what they wrote."""
        for container in self.started:
            self.call("podman", "rm", "--force", "--ignore", "--time=0", container.name, check=False)
        shutil.rmtree(self.folder / "data", ignore_errors=True)


class Container:
    """One container; its files live on when it is killed and started again."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name

    def _state(self, field: str) -> str:
        return self.engine.call("podman", "inspect", self.name, "--format", f"{{{{.State.{field}}}}}")

    def execute(self, *command: str) -> str:
        """What the command prints in the container, whatever its exit code."""
        ran = self._exec(*command)
        return (ran.stdout + ran.stderr).strip()

    def wait_healthy(self) -> None:
        """Wait until the image's own health check passes.

        It is executed here, with a longer limit than the image's: on a busy machine it may take
        longer than that to start Python.
        """
        form = "{{range (slice .Config.Healthcheck.Test 1)}}{{.}} {{end}}"
        check = self.engine.call("podman", "inspect", self.name, "--format", form).split()
        end = time.monotonic() + WAIT_S
        while (ran := self._exec(*check)).returncode != 0:
            assert self._state("Running") == "true", self.logs()
            assert time.monotonic() < end, f"{self.name} is not healthy: {ran.stdout}{ran.stderr}\n{self.logs()}"
            time.sleep(POLL_S)

    def _exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["podman", "exec", self.name, *command],
            env=self.engine.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def wait_ended(self) -> int:
        """Its exit code, once it has ended."""
        return int(self.engine.call("podman", "wait", self.name).splitlines()[-1])

    def kill(self) -> None:
        """Kill it as `kill -9` does.

        Its heartbeat goes too: for some seconds it would speak for the next process.
        """
        self.engine.call("podman", "kill", "--signal=KILL", self.name)
        self.wait_ended()
        (self.engine.folder / "data" / self.name / "heartbeat").unlink()

    def start(self) -> None:
        self.engine.call("podman", "start", self.name)

    def stop(self) -> int:
        """Ask it to stop, as Kubernetes does, and return its exit code."""
        self.engine.call("podman", "stop", "--time=60", self.name)
        return int(self._state("ExitCode"))

    def logs(self) -> str:
        return self.engine.call("podman", "logs", "--tail=40", self.name, check=False)


@contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """An engine whose containers end with the block, whatever happened in it."""
    one = Engine(folder)
    try:
        yield one
    finally:
        one.end()
