"""Pages as scripts: writes the files that a page shows, and runs the commands that it prints.

Then it compares what they print with the page. Owns every process that it starts, and ends each one
by its id. The rules of a page:

- A block of Python or YAML whose first line is a comment with a file's name (`# greeter.py`) is
  that file.
- In a `console` block a line that begins with `$ ` is typed, and the lines below it are what it
  prints.
- `...` alone on a line matches any lines. `^C` stops the service that was started last.
- A service (`mesh dev`, `mesh agent`, `mesh router`) runs on, in a terminal of its own.

A command that only looks is typed again until it prints what the page says, as a reader would do
who was too quick. Any other is typed once. Ids, times and durations differ from run to run;
`same_for_all` makes them alike.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

WAIT_S: Final = 60.0  # for one command; the machine may be busy
PACE_S: Final = 0.2
SETTLED_S: Final = 3.0  # after which a look is taken into the page, with --regen
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE: Final = re.compile(r"# ((?:[\w-]+/)*[\w-]+\.(?:py|ya?ml))\n")
SERVICE: Final = re.compile(r"mesh (dev|agent|router)\b")
LOOKS: Final = re.compile(r"mesh (status|approvals|workflows?|agents|events?|dlq)\b")
CHANGES: Final = re.compile(r"mesh \w+ (approve|reject|answer|cancel|retry|skip|fail|migrate|forget)\b")
UNLIKE: Final = (
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?"), "TIME"),
    # before durations: an id may be 7679103d
    (re.compile(r"\bsrc-[0-9a-f]{12}\b"), "VERSION"),
    (re.compile(r"\bsha256:[0-9a-f]{8,64}|\b[0-9a-f]{32}\b|\b[0-9a-f]{12}\b|\b[0-9a-f]{8}\b"), "ID"),
    (re.compile(r"\b(\d+(\.\d+)?) ?(ms|min|s|h|d)\b( \d+ (s|min|h)\b)?"), "DURATION"),
    (re.compile(r"\bnow\b|\bDURATION ago\b"), "AGO"),
    (re.compile(r"\b(on |instance=)[\w.-]+-\d+\b"), r"\1PROCESS"),
    (re.compile(r"\s+"), " "),
    (re.compile(r"^TIME "), ""),  # only the first line of a decision has it
)


class Shown(NamedTuple):
    """A file that the page shows."""

    path: str
    text: str


class Typed(NamedTuple):
    """A command, and the lines that the page prints below it. `command` may be the key `^C`."""

    command: str
    printed: tuple[str, ...]


def steps(page: str) -> Iterator[Shown | Typed]:
    """What a reader does with the page, from top to bottom."""
    for language, text in BLOCK.findall(page):
        if language == "console":
            yield from typed(text)
        elif (name := FILE.match(text)) is not None:
            yield Shown(name[1], text)


def typed(block: str) -> Iterator[Typed]:
    command, printed = "", list[str]()
    for line in block.splitlines():
        if line.startswith("$ ") or line == "^C":
            if command:
                yield Typed(command, tuple(printed))
            command, printed = line.removeprefix("$ "), []
        else:
            printed.append(line)
    if command:
        yield Typed(command, tuple(printed))


def same_for_all(line: str) -> str:
    """The line without what differs from run to run."""
    line = line.strip()
    for pattern, word in UNLIKE:
        line = pattern.sub(word, line)
    return line


def fits(printed: Sequence[str], came: Sequence[str], *, to_the_end: bool = True) -> bool:
    """Whether `came` is what the page says.

    `to_the_end=False`: more lines may follow, as from a service.
    """
    if not printed:
        return not came or not to_the_end
    first, *rest = printed
    if first.strip() == "...":
        return any(fits(rest, came[skipped:], to_the_end=to_the_end) for skipped in range(len(came) + 1))
    return bool(came) and same_for_all(first) == same_for_all(came[0]) and fits(rest, came[1:], to_the_end=to_the_end)


class Service:
    """A command that runs on, with its output in a file."""

    def __init__(self, command: str, folder: Path, env: dict[str, str], log: Path) -> None:
        self.command, self.log, self.read = command, log, 0
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                f"exec {command}", shell=True, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def said(self) -> list[str]:
        """The lines since the page last looked."""
        return self.log.read_text(errors="replace").splitlines()[self.read :]

    def interrupt(self) -> int:
        self.read = len(self.log.read_text(errors="replace").splitlines())
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(WAIT_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(WAIT_S)


class Reader:
    """Does what a page says, in a new folder, with the executables of `path` first.

    `compares=False`: it takes whatever is printed, to be written into the page.
    """

    def __init__(self, folder: Path, logs: Path, path: Path, *, compares: bool) -> None:
        self.folder, self.logs, self.compares = folder, logs, compares
        self.services: list[Service] = []
        self.outputs: list[list[str]] = []
        unset = ("MESH_", "PYTEST_", "COV_", "COLUMNS", "FORCE_COLOR", "PYTHONPATH", "VIRTUAL_ENV")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
        self.env |= {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1", "MESH_LOG_FORMAT": "console"}
        # This environment has plugins of pytest that a reader's own has not.
        self.env |= {"PYTEST_ADDOPTS": "-p no:asyncio -p no:cacheprovider"}

    def do(self, step: Shown | Typed, *, typed_elsewhere: bool = False) -> None:
        """Do one step. Raises AssertionError if it prints something else than the page."""
        match step:
            case Typed(printed=printed) if typed_elsewhere:
                self.outputs.append(list(printed))
            case Shown(path, text):
                file = self.folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            case Typed("^C", printed):
                self.outputs.append(self._interrupt(printed))
            case Typed(command, printed) if SERVICE.match(command):
                self.outputs.append(self._serve(command, printed))
            case Typed(command, printed):
                self.outputs.append(self._type(command, printed))

    def leave(self) -> None:
        """Stop what the page leaves running, as a reader would with Ctrl-C."""
        while self.services:
            self._interrupt(["..."])

    def _interrupt(self, printed: Sequence[str]) -> list[str]:
        service = self.services.pop()
        code = service.interrupt()
        assert code == 0, f"{service.command} ended with {code}:\n{service.log.read_text()[-3000:]}"
        return self._compare(f"^C ({service.command})", printed, service.said(), code)

    def _type(self, command: str, printed: Sequence[str]) -> list[str]:
        looks = LOOKS.match(command) and not CHANGES.match(command)
        end = time.monotonic() + (WAIT_S if self.compares else SETTLED_S)
        while True:
            came, code = self._run(command)
            if (self.compares and fits(printed, came)) or not looks or time.monotonic() > end:
                return self._compare(command, printed, came, code)
            self._check_services()
            time.sleep(PACE_S)

    def _run(self, command: str) -> tuple[list[str], int]:
        ran = subprocess.run(
            f"exec {command}",
            shell=True,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=WAIT_S,
            check=False,
        )
        return ran.stdout.decode(errors="replace").splitlines(), ran.returncode

    def _serve(self, command: str, printed: Sequence[str]) -> list[str]:
        service = Service(command, self.folder, self.env, self.logs / f"{len(list(self.logs.iterdir()))}.log")
        self.services.append(service)
        end = time.monotonic() + WAIT_S
        while not fits(printed, service.said(), to_the_end=False) and time.monotonic() < end:
            self._check_services()
            time.sleep(PACE_S)
        return self._compare(command, printed, service.said(), 0, to_the_end=False)

    def _check_services(self) -> None:
        for service in self.services:
            assert service.process.poll() is None, f"{service.command} has ended:\n{service.log.read_text()[-3000:]}"

    def _compare(
        self, command: str, printed: Sequence[str], came: list[str], code: int, *, to_the_end: bool = True
    ) -> list[str]:
        services = "\n".join(f"--- {one.command}\n{one.log.read_text()[-2000:]}" for one in self.services)
        told = "\n".join(["$ " + command, *came, f"(exit code {code}), but the page prints:", *printed])
        assert not self.compares or fits(printed, came, to_the_end=to_the_end), f"{told}\n{services}"
        return came


@contextmanager
def reader(folder: Path, logs: Path, path: Path, *, compares: bool = True) -> Iterator[Reader]:
    """A reader whose services end with the block, whatever happens in it."""
    folder.mkdir()
    logs.mkdir()
    one = Reader(folder, logs, path, compares=compares)
    try:
        yield one
    finally:
        for service in one.services:
            service.end()


def with_output(page: str, outputs: Sequence[list[str]]) -> str:
    """The page with what its commands really printed, in their order.

    Output that fits already is kept, and so is output with a line `...`.
    """
    given = iter(outputs)

    def filled(block: re.Match[str]) -> str:
        if block[1] != "console":
            return block[0]
        lines = []
        for one in typed(block[2]):
            came = next(given)
            kept = "..." in one.printed or fits(one.printed, came)
            shown = one.printed if kept else [line.rstrip() for line in came]
            lines += [one.command if one.command == "^C" else f"$ {one.command}", *shown]
        return "\n".join(["```console", *lines, "```"])

    return BLOCK.sub(filled, page)
