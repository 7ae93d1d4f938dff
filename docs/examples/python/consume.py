"""Reads a topic as a member of a consumer group.

It uses nothing but the code that run.sh generates from proto/: no library of
Sluice's. Run it several times at once, and the partitions are shared out.
Usage: consume.py [SERVER [TOPIC [GROUP [COUNT]]]]
"""

import queue
import sys

import grpc

from sluice.v1 import group_pb2, group_pb2_grpc


def main(server="127.0.0.1:9092", topic="flights", group="counters", count="0"):
    count = int(count)
    read = 0
    sending = queue.SimpleQueue()
    sending.put(
        group_pb2.ConsumeRequest(
            join=group_pb2.ConsumeJoin(
                group=group,
                subscription=group_pb2.Subscription(topics=[topic]),
                client_id="example",
                offset_reset="earliest",
                credit_bytes=1 << 20,
            )
        )
    )
    with grpc.insecure_channel(server) as channel:
        stub = group_pb2_grpc.GroupServiceStub(channel)
        # None ends the sending side, and with it the membership.
        for message in stub.Consume(iter(sending.get, None)):
            event = message.WhichOneof("event")
            if event == "assigned":
                for p in message.assigned.partitions:
                    print(f"reading {p.topic}-{p.partition} from offset {p.offset}")
            elif event == "revoking":
                # All records that came are worked on and committed: give up.
                for t in message.revoking.topics:
                    print(f"giving up {t.topic} {list(t.partitions)}")
                sending.put(group_pb2.ConsumeRequest(revoked=group_pb2.ConsumeRevoked()))
            elif event == "records" and (not count or read < count):
                got = message.records
                records, next_offset = list(got.records), got.next_offset
                if count and len(records) > count - read:
                    next_offset = records[count - read].offset
                    records = records[: count - read]
                read += len(records)  # a real program would do something with them
                commit = group_pb2.ConsumeCommit()
                commit.offsets.add(
                    topic=got.topic, partition=got.partition, offset=next_offset
                )
                sending.put(group_pb2.ConsumeRequest(commit=commit))
                if count and read == count:
                    sending.put(None)
                    continue
                credit = group_pb2.ConsumeCredit(credit_bytes=got.credit_bytes)
                sending.put(group_pb2.ConsumeRequest(credit=credit))
            elif event == "committed":
                for result in message.committed.results:
                    if result.HasField("error"):
                        sys.exit(f"Error: {result.error.message}")
            elif event == "refused":
                sys.exit(f"Error: {message.refused.error.message}")
    print(f"read {read} records")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:5])
    except grpc.RpcError as error:
        sys.exit(f"Error: {error.code().name}: {error.details()}")
