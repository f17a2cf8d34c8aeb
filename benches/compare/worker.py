"""A process that keeps one system open and runs commands from a pipe: check, run, cold.

Every system has its own processes, so that threads, locks and settings of libraries do not
interfere. A worker inherits its cores from the parent before any library is loaded. Standard output
carries pickled answers; what libraries print goes to standard error.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback

import numpy as np


class Worker:
    """The parent's handle; the first answer says that the system is open."""

    def __init__(self, system, cpus, threads=1, callers=1):
        mine = os.sched_getaffinity(0)
        limits = {
            name: str(threads)
            for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "BLOSC_NTHREADS")
        }
        os.sched_setaffinity(0, cpus)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benches.compare.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **limits},
                # The parent handles Ctrl-C; a worker ends when its input does.
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.sched_setaffinity(0, mine)
        # The class is pickled by name, so its library is loaded in the worker.
        self.send("open", type(system), system.volume, system.patch, threads, callers)

    def send(self, *command):
        try:
            pickle.dump(command, self.process.stdin)
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise RuntimeError("a worker has died; its error is above") from error

    def receive(self):
        try:
            ok, answer = pickle.load(self.process.stdout)
        except EOFError as error:
            raise RuntimeError("a worker has died; its error is above") from error
        if not ok:
            raise RuntimeError(answer)
        return answer

    def ask(self, *command):
        self.send(*command)
        return self.receive()

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Server:
    """The worker's side."""

    def open(self, system, volume, patch, threads, callers):
        self.callers = [system(volume, patch) for _ in range(callers)]
        for caller in self.callers:
            caller.open(threads)
        self.truth = volume.voxels()
        self.size = patch
        self.outs = [np.empty(patch, self.truth.dtype) for _ in self.callers]

    def check(self, starts):
        """Compares patches voxel by voxel with the volume."""
        from .system import box

        for k, start in enumerate(starts):
            caller, out = self.callers[k % len(self.callers)], self.outs[k % len(self.callers)]
            out.fill(113)
            found = caller.read(start, self.size, out)
            wanted = self.truth[box(start, self.size)]
            if found.dtype != wanted.dtype or not np.array_equal(found, wanted):
                raise RuntimeError(f"{caller.name} read wrong voxels at {start}")

    def run(self, starts):
        """Seconds for all of `starts`, shared among the callers."""
        if len(self.callers) == 1:
            return self.callers[0].run(starts, self.size, self.outs[0])
        n = len(self.callers)
        threads = [
            threading.Thread(target=caller.run, args=(starts[k::n], self.size, self.outs[k]))
            for k, caller in enumerate(self.callers)
        ]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - begin

    def cold(self, starts):
        from . import cold

        return cold.run(self.callers[0], starts, self.outs[0])

    def tiny(self, start, count):
        """Seconds for `count` reads of one voxel."""
        out = np.empty((1, 1, 1), self.truth.dtype)
        return self.callers[0].run([start] * count, (1, 1, 1), out)


def main():
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server = Server()
    while True:
        try:
            name, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = True, getattr(server, name)(*arguments)
        except Exception:
            answer = False, traceback.format_exc(limit=-3)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
