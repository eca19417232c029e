# python examples/cluster/run.py, then open http://127.0.0.1:8080/ in several tabs, and kill what it names
# Starts a Redis, two nodes and nginx before them, and ends all of them at Ctrl-C. Needs Debian's packages
# redis-server and nginx, and pip install "txsse[redis]". Other ports: run.py NGINX ONE TWO REDIS; 0 is any.

import importlib.util
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent

# Far beyond what starting and ending take, so that only what hangs runs into it; in seconds.
PATIENCE = 15.0


class Programs:
    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.told_to_end = False

    def tell_to_end(self, *_: object) -> None:
        # An exception could come before it is known what has just been started.
        self.told_to_end = True

    def start(self, name: str, command: list[str]) -> None:
        # In a session of its own, as Ctrl-C would reach all of them at once.
        self.running[name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True
        )

    def wait_for(self, name: str, port: int, log: Path | None = None) -> None:
        """
        Wait until a program listens at its port. If it has a log, it says nothing else.
        """
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            if self.told_to_end:
                sys.exit()
            if self.running[name].poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace") if log and log.exists() else ""
                sys.exit(f"{said}{name} does not listen at port {port}.")
            time.sleep(0.05)

    def watch(self, needed: str) -> None:
        """
        Tell of those that end, until this program is told to end.
        """
        while not self.told_to_end:
            for name, process in list(self.running.items()):
                if process.poll() is not None:
                    del self.running[name]
                    print(f"{name} is gone.", flush=True)
            if needed not in self.running:
                sys.exit(f"There is nothing to see without {needed}.")
            time.sleep(0.1)

    def end(self) -> None:
        """
        End all that are left, each by its pid, the last first.
        """
        for process in reversed(self.running.values()):
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def find(program: str) -> str:
    # Debian's nginx is where only root looks.
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    return found or sys.exit(f"There is no {program} here: install Debian's package {program}, or its like.")


def choose_ports(*wanted: str) -> list[int]:
    """
    Return ports that nobody listens at.
    """
    with ExitStack() as probes:
        # All at once, so that they differ.
        return [choose_port(port, probes.enter_context(socket.socket())) for port in wanted]


def choose_port(wanted: str, probe: socket.socket) -> int:
    # As they all do it, so that connections that have just ended are in nobody's way.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # None of those that the system gives to who asks for any: somebody else could get it before it is used.
    ports = [wanted] if wanted != "0" else random.sample(range(20000, 30000), 100)
    for port in ports:
        try:
            probe.bind(("127.0.0.1", int(port)))
        except (ValueError, OverflowError):
            sys.exit(f"{port} is no port. Give numbers up to 65535; 0 is a free one.")
        except OSError as error:
            problem = error.strerror
        else:
            return int(port)
    sys.exit(f"Port {port} cannot be had ({problem}). Give another one; 0 is a free one.")


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def main(*wanted: str) -> None:
    for package in ("txsse", "txredisapi", "hiredis"):
        if importlib.util.find_spec(package) is None:
            sys.exit(f'{sys.executable} lacks {package}: pip install "txsse[redis]"')
    redis_server, nginx_program = find("redis-server"), find("nginx")
    nginx, one, two, redis = choose_ports(*wanted, *("8080", "0", "0", "0")[len(wanted) :])
    programs = Programs()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, programs.tell_to_end)
    url = f"redis://127.0.0.1:{redis}"
    with TemporaryDirectory(prefix="txsse-cluster-") as name:
        directory = Path(name)
        # Where root starts nginx, its workers are somebody else, with directories of their own in this one.
        directory.chmod(0o755)
        configuration, log = directory / "nginx.conf", directory / "redis.log"
        configuration.write_text(configure(nginx, one, two), encoding="utf-8")
        # What was published outlives a kill -9, as each command is written to a file at once.
        keep = ["--appendonly", "yes", "--save", "", "--dir", name, "--logfile", str(log)]
        node = [sys.executable, str(HERE / "node.py")]
        commands = {
            "Redis": (redis, [redis_server, "--port", str(redis), "--bind", "127.0.0.1", *keep]),
            "Node one": (one, [*node, "one", str(one), url]),
            "Node two": (two, [*node, "two", str(two), url]),
            "nginx": (nginx, [nginx_program, "-p", name, "-c", str(configuration)]),
        }
        try:
            for title, (port, command) in commands.items():
                programs.start(title, command)
                if title == "Redis":
                    programs.wait_for(title, port, log)
            for title in ("Node one", "Node two", "nginx"):
                programs.wait_for(title, commands[title][0])
            del commands["nginx"]
            for title, (_, command) in commands.items():
                print(f"{title}: kill -9 {programs.running[title].pid}")
                print(f"  and to have it back: {shlex.join(command)}")
            print(f"Open http://127.0.0.1:{nginx}/", flush=True)
            programs.watch("nginx")
        finally:
            programs.end()


def configure(nginx: int, one: int, two: int) -> str:
    """
    Return nginx's configuration, with other ports.
    """
    text = (HERE / "nginx.conf").read_text(encoding="utf-8")
    ports = {"8080": nginx, "8081": one, "8082": two}
    return re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{ports[found[1]]}", text)


if __name__ == "__main__":
    if len(sys.argv) > 5:
        sys.exit("There are four ports at most: of nginx, of the nodes, and of Redis.")
    main(*sys.argv[1:])
