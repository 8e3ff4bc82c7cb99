"""A target that answers 1 KiB after a known time, and says how long it really took."""

import asyncio
import json
import sys
import time

from aiohttp import web

BODY = b"x" * 1024


async def answer(request: web.Request) -> web.Response:
    """Answer after `?after=` seconds; the header `took` has the real seconds."""
    began = time.perf_counter()
    after = float(request.query.get("after", "0"))
    if after:
        await asyncio.sleep(after)
    return web.Response(body=BODY, headers={"took": f"{time.perf_counter() - began:.6f}"})


async def serve() -> None:
    """Serve on a free port until the other side of stdin goes."""
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    port = runner.addresses[0][1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}/"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
