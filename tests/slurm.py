"""A SLURM of one node, this machine, for as long as tests need it. All of it is in one folder."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
TaskPlugin=task/none
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
KillWait=1
MinJobAge=3600
SlurmdParameters=config_overrides
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=100 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=other Nodes={host} MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why there can be no cluster here, or None."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in (*DAEMONS, *CLIENTS) if not shutil.which(name, path=path)]
    if missing:
        return f"SLURM is not installed: no {', '.join(missing)} (Debian: slurm-wlm, munge)"
    return None if os.geteuid() == 0 else "SLURM's daemons need root"


class Cluster:
    """Use it as a context manager; `env` is what clients need.

    Args:
      folder: for everything; not there yet. Its path must be short, for a socket is in it.
      cpus: how many tasks run at once.
    """

    def __init__(self, folder: Path, *, cpus: int = 2) -> None:
        self.folder, self._cpus = folder, cpus
        self._processes: list[subprocess.Popen[bytes]] = []
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        self.env = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def __enter__(self) -> "Cluster":
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(2)
        text = CONFIGURATION.format(
            host=host,
            folder=self.folder,
            cpus=self._cpus,
            controller_port=ports[0],
            node_port=ports[1],
        )
        (self.folder / "slurm.conf").write_text(text)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        try:
            munge = ("socket", "pid-file", "log-file", "seed-file")
            options = [f"--{name}={self.folder}/munge.{name.split('-')[0]}" for name in munge]
            self._start("munged", "--foreground", "--force", f"--key-file={key}", *options)
            self._wait((self.folder / "munge.socket").exists)
            self._start("slurmctld", "-D", "-f", f"{self.folder}/slurm.conf")
            self._start("slurmd", "-D", "-f", f"{self.folder}/slurm.conf", "-N", host)
            self._wait(lambda: self.ask("sinfo", "--noheader", "--format=%t").startswith("idle"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if len(self._processes) == len(DAEMONS):
            self.ask("scancel", f"--user={os.getuid()}")
            deadline = time.monotonic() + 10
            while self.ask("squeue", "--noheader") and time.monotonic() < deadline:
                time.sleep(0.1)
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ask(self, *command: str) -> str:
        """Output of a client; nothing if it fails."""
        env = {**os.environ, **self.env}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else ""

    def _start(self, *command: str) -> None:
        env = {**os.environ, **self.env}
        with open(self.folder / f"{command[0]}.out", "wb") as out:
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self._processes.append(process)

    def _wait(self, condition) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            ended = [process for process in self._processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                said = [
                    path.read_text("utf-8")[-2000:] for path in sorted(self.folder.glob("*.out"))
                ]
                logs = [
                    path.read_text("utf-8")[-2000:] for path in sorted(self.folder.glob("*.log"))
                ]
                raise RuntimeError("SLURM does not start:\n" + "\n".join([*said, *logs]))
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
