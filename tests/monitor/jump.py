"""A schedule under a wall clock that is stepped while it runs; started with libfaketime.

`python -m tests.monitor.jump FILE HOURS`: FILE is what libfaketime reads its offset from.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from monitor.clock import STEADY, Clock
from monitor.grid import Grid
from monitor.schedule import Schedule
from probes.base import Why

EVERY = 0.2


async def jump(file: Path, hours: str) -> None:
    clock = Clock()
    began, cpu = clock.now(), time.process_time()
    wall, steady = time.time(), time.clock_gettime(STEADY)
    runs: list[float] = []
    lateness: list[float] = []
    missed: list[float] = []
    jumped = asyncio.Event()
    done = asyncio.Event()

    async def work(slot: float) -> None:
        runs.append(slot)
        lateness.append(clock.now() - slot)
        if len(runs) == 5:
            file.write_text(f"{hours}h\n")
            jumped.set()
        if len(runs) == 12:
            done.set()

    def hear(slots: list[float], why: Why) -> None:
        missed.extend(slots)

    schedule = Schedule(clock, lambda: began + 60)
    schedule.add("probe", Grid(anchor=began, every=EVERY), work, hear)
    schedule.start()
    try:
        async with asyncio.timeout(15):
            await done.wait()
    except TimeoutError:
        pass
    await schedule.stop(1.0)
    print(
        json.dumps(
            {
                "jumped_by": round(time.time() - wall - (time.clock_gettime(STEADY) - steady)),
                "step": round(clock.step()),
                "slots": [round((slot - began) / EVERY, 3) for slot in runs],
                "worst_lateness": max(lateness),
                "missed": len(missed),
                "cpu_s": time.process_time() - cpu,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(jump(Path(sys.argv[1]), sys.argv[2]))
