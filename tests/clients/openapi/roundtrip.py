"""Sends records through a client that was made of the OpenAPI document."""

import base64
import os

from sluice_client import Client
from sluice_client.api.records import fetch_records, produce
from sluice_client.api.rest_proxy_v_2 import v_2_topics
from sluice_client.api.rest_proxy_v_3 import v_3_clusters
from sluice_client.api.topics import create_topic, get_topic
from sluice_client.models import CreateTopicBody, ProduceBody

client = Client(base_url=os.environ["SLUICE_TEST_HTTP"], raise_on_unexpected_status=True)
topic = f"python-{os.getpid()}"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def main() -> None:
    made = create_topic.sync(
        client=client, body=CreateTopicBody.from_dict({"topic": topic, "partition_count": 2})
    )
    assert made.topic == topic, made
    body = ProduceBody.from_dict(
        {"records": [{"key": encoded("LAX"), "value": encoded("{}"), "partition": 1}]}
    )
    for _ in range(2):
        answer = produce.sync(topic, client=client, body=body, idempotency_key="round-trip")
        assert answer.results[0].offset == "0", answer
    page = fetch_records.sync(topic, 1, client=client, offset="0")
    assert [record.value for record in page.records] == [encoded("{}")], page
    assert page.next_offset == "1", page
    missing = get_topic.sync_detailed("absent", client=client)
    assert missing.status_code == 404, missing
    assert missing.parsed.reason == "UNKNOWN_TOPIC_OR_PARTITION", missing
    assert topic in v_2_topics.sync(client=client)
    clusters = v_3_clusters.sync(client=client)
    assert clusters.data[0].cluster_id, clusters
    print("ok: records, errors, v2 and v3 through the Python client")


if __name__ == "__main__":
    main()
