"""An S3 of the tests' own: moto as a process, with one bucket and a read-only policy."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import boto3
import httpx
from botocore.config import Config

from tests.servers.process import Server


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectStore(Server):
    """A moto server. It keeps everything in memory: a restart leaves an empty bucket."""

    bucket: str = "freezewatch"

    region: ClassVar[str] = "us-east-1"
    """The one region in which a bucket needs no location."""

    def prepare(self) -> None:
        """It has no data of its own."""

    def command(self) -> list[str]:
        """A process and not a thread, since all threads of moto share their buckets, and cannot hang."""
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def answers(self) -> bool:
        """It answers requests."""
        return httpx.get(f"{self.url}/moto-api/", timeout=1, trust_env=False).is_success

    def start(self) -> None:
        """Start it and create the bucket."""
        super().start()
        self.client().create_bucket(Bucket=self.bucket)

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Any:
        """A boto3 client that asks once; by default boto3 repeats a request, a write too, four times."""
        once: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "connect_timeout": 5, "read_timeout": 5}
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(**(once | options)),
        )

    def read_only(self, on: bool) -> None:
        """Deny writes by a policy of the bucket, or take it away."""
        if not on:
            self.client().delete_bucket_policy(Bucket=self.bucket)
            return
        deny = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:PutObject", "s3:DeleteObject", "s3:PutObjectTagging"],
            "Resource": [f"arn:aws:s3:::{self.bucket}/*"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
        self.client().put_bucket_policy(Bucket=self.bucket, Policy=policy)

    def dump(self) -> str:
        """A line an object: key, size, ETag and time; equal if and only if none was written or deleted."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        objects = [item for page in pages for item in page.get("Contents", [])]
        return "\n".join(f"{one['Key']} {one['Size']} {one['ETag']} {one['LastModified']}" for one in objects)
