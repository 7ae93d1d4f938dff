"""REST Proxy clients of other projects against a node.

kafka-bridge-client speaks v2 as the Strimzi bridge and as Confluent's REST Proxy have it;
pymapr-kafkarest is a consumer of Confluent's v2.
"""

import asyncio
import base64
import os
import urllib.request

import pytest

try:  # kafka-bridge-client imports a name that it never uses from a module of CPython's tests
    import xxlimited  # noqa: F401
except ImportError:
    import sys
    import types

    sys.modules["xxlimited"] = types.SimpleNamespace(Str=str)

from kafka_bridge_client import KafkaBridgeConsumer, KafkaBridgeProducer, Message
from kafka_bridge_client.exceptions import KafkaBridgeTopicNotFoundError
from pymapr_kafkarest.kafkarest import MaprKlient

REST = "http://" + os.environ["SLUICE_TEST_HTTP"].removeprefix("http://")


def make_topic(name, partitions=3):
    request = urllib.request.Request(
        f"{REST}/v1/topics",
        data=f'{{"topic":"{name}","partition_count":{partitions}}}'.encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()


@pytest.mark.parametrize("proxy", ["confluent", "strimzi"])
def test_the_bridge_client_reads_what_it_wrote(proxy):
    topic = "bridge-" + proxy
    make_topic(topic)
    producer = KafkaBridgeProducer(REST, timeout=10)
    sent = {f"value-{i}".encode() for i in range(20)}
    assert producer.sends(topic, [Message(key=str(v), value=v) for v in sent], binary=True)

    async def read():
        consumer = KafkaBridgeConsumer(
            topic,
            bootstrap_server=REST,
            group_id=topic,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            consumer_name="the-consumer",
            proxy=proxy,
        )
        await consumer._create_consumer_instance()
        try:
            await consumer._subscribe()
            got = set()
            while len(got) < len(sent):
                records = await consumer.poll_records(max_bytes=100_000, timeout=5000)
                got |= {base64.b64decode(record["value"]) for record in records}
            if proxy == "confluent":  # the bridge commits other numbers, and answers 204
                await consumer.commit()
            return got
        finally:
            await consumer.delete_consumer_instance()

    assert asyncio.run(read()) == sent


def test_the_bridge_client_is_told_of_a_missing_topic():
    producer = KafkaBridgeProducer(REST, timeout=10)
    with pytest.raises(KafkaBridgeTopicNotFoundError):
        producer.send("no-such-topic", Message(key="k", value="v"))


def test_kafkarest_consumes_and_seeks():
    topic = "kafkarest"
    make_topic(topic, partitions=1)
    producer = KafkaBridgeProducer(REST, timeout=10)
    assert producer.sends(topic, [Message(key="k", value=str(i)) for i in range(5)])
    consumer = MaprKlient(
        REST + "/", consumer="kafkarest", headers={}, topics=[topic], instance="me",
        follow_base_uri=True,
    )
    consumer.connect()
    consumer.connect(clear=True)  # the name is taken: it deletes the instance, and makes another
    consumer.subscribe()
    assert consumer._subscription_topics() == {"topics": [topic]}

    def values(**where):
        return [record["value"] for record in consumer.consume(**where)]

    assert values() == ["0", "1", "2", "3", "4"]
    assert values(seek=True) == ["0", "1", "2", "3", "4"]
    assert values(position=3) == ["3", "4"]
    consumer._instance_delete()
