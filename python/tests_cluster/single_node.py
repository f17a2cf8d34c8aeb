"""A SLURM of one node, this machine, with ports, folders and processes of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue"]
INSTALL = "make test-cluster needs SLURM: as root, apt-get install slurm-wlm munge"
PARTITION = "parts"

CONFIGURATION = """
ClusterName=voxquarry
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
JobRequeue=1
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName={partition} Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


@contextmanager
def single_node(folder: Path) -> Iterator[None]:
    """Runs until the end of the block; commands of SLURM find it through the environment."""
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host, user = socket.gethostname().split(".")[0], pwd.getpwuid(os.getuid()).pw_name
    controller, node = _free_port(), _free_port()
    settings = CONFIGURATION.format(
        host=host,
        user=user,
        controller=controller,
        node=node,
        folder=folder,
        partition=PARTITION,
    )
    (folder / "slurm.conf").write_text(settings)
    changed = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    before = {name: os.environ.get(name) for name in changed}
    with ExitStack() as ends:
        ends.callback(_restore, before)
        os.environ.update(changed)
        files = {"socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        options = [f"--{name}={folder / file}" for name, file in files.items()]
        munge = ["munged", "--foreground", "--force", f"--key-file={key}", *options]
        _start(ends, folder, munge)
        _wait_for(lambda: (folder / "munge.socket").exists(), folder)
        _start(ends, folder, ["slurmctld", "-D", "-i"])
        _start(ends, folder, ["slurmd", "-D", "-N", host])
        _wait_for(lambda: "idle" in _told("sinfo", "--noheader", "--format=%T"), folder)
        ends.callback(_told, "scancel", f"--partition={PARTITION}")
        yield


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def _free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _start(ends: ExitStack, folder: Path, command: list[str]) -> None:
    log = ends.enter_context((folder / f"{command[0]}.out").open("w"))
    process = subprocess.Popen(command, stdout=log, stderr=log)
    ends.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _told(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return run.stdout + run.stderr


def _wait_for(happens: object, folder: Path) -> None:
    end = time.monotonic() + 60
    while not happens():
        if time.monotonic() > end:
            logs = [path for path in folder.iterdir() if path.suffix in {".log", ".out"}]
            told = "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in logs)
            raise RuntimeError(f"SLURM does not start:\n{told}")
        time.sleep(0.2)


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
