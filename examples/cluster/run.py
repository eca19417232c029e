# python examples/cluster/run.py, then open http://127.0.0.1:8080/ in several tabs, and kill a program
# Starts a Redis server, two nodes, and nginx as their proxy; Ctrl-C stops them. Needs Debian's packages
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

# Seconds to start or stop a program: far more than either takes, so that only a hang exceeds it.
PATIENCE = 15.0


class Programs:
    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.stopping = False

    def ask_to_stop(self, *_: object) -> None:
        # Only set a flag: an exception could come between a program's start and its entry in self.running.
        self.stopping = True

    def start(self, name: str, command: list[str]) -> None:
        # In its own session: otherwise Ctrl-C would reach all programs at once.
        self.running[name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True
        )

    def wait_for(self, name: str, port: int, log: Path | None = None) -> None:
        """
        Wait until a program listens on its port. If it fails, show its log: Redis reports errors only there.
        """
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            if self.stopping:
                sys.exit()
            if self.running[name].poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace") if log and log.exists() else ""
                sys.exit(f"{said}{name} does not listen on port {port}.")
            time.sleep(0.05)

    def watch(self, needed: str) -> None:
        """
        Report each program that exits, until this program is asked to stop.
        """
        while not self.stopping:
            for name, process in list(self.running.items()):
                if process.poll() is not None:
                    del self.running[name]
                    print(f"{name} has exited.", flush=True)
            if needed not in self.running:
                sys.exit(f"Stopping, because {needed} has exited.")
            time.sleep(0.1)

    def end(self) -> None:
        """
        Stop the programs that still run, in the reverse order of their start.
        """
        for process in reversed(self.running.values()):
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def find(program: str) -> str:
    # Debian installs nginx in a directory that is only on root's PATH.
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    return found or sys.exit(f"{program} was not found: install Debian's package {program}.")


def choose_ports(*wanted: str) -> list[int]:
    """
    Return ports that no program listens on.
    """
    with ExitStack() as probes:
        # Hold all of them open, so that they differ.
        return [choose_port(port, probes.enter_context(socket.socket())) for port in wanted]


def choose_port(wanted: str, probe: socket.socket) -> int:
    # As the programs do: connections that have just ended must not make a port look taken.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Not from the system's ephemeral range: another program could get such a port before it is used here.
    ports = [wanted] if wanted != "0" else random.sample(range(20000, 30000), 100)
    for port in ports:
        try:
            probe.bind(("127.0.0.1", int(port)))
        except (ValueError, OverflowError):
            sys.exit(f"{port} is not a port. Use a number up to 65535; 0 chooses a free port.")
        except OSError as error:
            problem = error.strerror
        else:
            return int(port)
    sys.exit(f"Port {port} is not available ({problem}). Use another one; 0 chooses a free port.")


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
        signal.signal(number, programs.ask_to_stop)
    url = f"redis://127.0.0.1:{redis}"
    with TemporaryDirectory(prefix="txsse-cluster-") as name:
        directory = Path(name)
        # If root starts nginx, its workers run as another user, with their own directories in this one.
        directory.chmod(0o755)
        configuration, log = directory / "nginx.conf", directory / "redis.log"
        configuration.write_text(configure(nginx, one, two), encoding="utf-8")
        # Updates survive a kill -9, because Redis writes each command to a file at once.
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
                print(f"  and to restart it: {shlex.join(command)}")
            print(f"Open http://127.0.0.1:{nginx}/", flush=True)
            programs.watch("nginx")
        finally:
            programs.end()


def configure(nginx: int, one: int, two: int) -> str:
    """
    Return nginx.conf with its ports replaced.
    """
    text = (HERE / "nginx.conf").read_text(encoding="utf-8")
    ports = {"8080": nginx, "8081": one, "8082": two}
    return re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{ports[found[1]]}", text)


if __name__ == "__main__":
    if len(sys.argv) > 5:
        sys.exit("Give at most four ports: those of nginx, of the two nodes, and of Redis.")
    main(*sys.argv[1:])
