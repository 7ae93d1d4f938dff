"""Writes a record to Sluice and reads it back.

It uses nothing but the code that run.sh generates from proto/: no library of
Sluice's. Usage: client.py [SERVER [TOPIC]]
"""

import sys

import grpc
from google.protobuf import duration_pb2

from sluice.v1 import log_pb2, log_pb2_grpc, record_pb2


def main(server="127.0.0.1:9092", topic="flights"):
    with grpc.insecure_channel(server) as channel:
        log = log_pb2_grpc.LogServiceStub(channel)
        record = record_pb2.ProduceRecord(
            key=b"SFO",
            value=b'{"origin":"SFO","destination":"SEA"}',
            headers=[record_pb2.Header(name="client", value=b"python")],
        )
        written = log.Produce(
            log_pb2.ProduceRequest(topic=topic, records=[record]), timeout=10
        )
        where = written.results[0]
        print(f"wrote {topic}-{where.partition} at offset {where.offset}")

        read = log.Fetch(
            log_pb2.FetchRequest(
                topic=topic,
                partition=where.partition,
                offset=where.offset,
                max_wait=duration_pb2.Duration(seconds=1),
            ),
            timeout=10,
        )
        for got in read.records:
            print(f"read offset {got.offset}: {got.key.decode()} = {got.value.decode()}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except grpc.RpcError as error:
        sys.exit(f"Error: {error.code().name}: {error.details()}")
