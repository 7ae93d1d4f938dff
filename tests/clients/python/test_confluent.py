"""confluent-kafka's Schema Registry client against a node."""

import base64
import datetime
import decimal
import json
import os
import urllib.error
import urllib.request

import grpc
import pytest
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    record_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import duration_pb2
from sluice.v1 import log_pb2, log_pb2_grpc

REGISTRY = os.environ["SLUICE_TEST_REGISTRY"]
REST = os.environ["SLUICE_TEST_HTTP"]
GRPC = os.environ["SLUICE_TEST_GRPC"]

TOPIC = "python-confluent"
SUBJECT = TOPIC + "-value"
FIELDS = [{"name": "place", "type": "string"}, {"name": "mag", "type": "double"}]
FELT = {"name": "felt", "type": ["null", "int"], "default": None}
NET = {"name": "net", "type": "string"}
QUAKE = {"place": "Åre", "mag": -1.5}


def quake(*fields):
    return Schema(
        json.dumps(
            {
                "type": "record",
                "name": "Quake",
                "namespace": "sluice.test.python",
                "fields": FIELDS + list(fields),
            }
        ),
        "AVRO",
    )


FIRST, EVOLVED, BROKEN = quake(), quake(FELT), quake(FELT, NET)


def connect():
    return SchemaRegistryClient({"url": REGISTRY, "max.retries": 0})


@pytest.fixture(scope="module")
def client():
    return connect()


@pytest.fixture(scope="module")
def ids(client):
    """The ids of the two versions that SUBJECT has."""
    return [client.register_schema(SUBJECT, s) for s in (FIRST, EVOLVED)]


def refused(call, status, code):
    with pytest.raises(SchemaRegistryError) as caught:
        call()
    assert (caught.value.http_status_code, caught.value.error_code) == (status, code)
    return str(caught.value)


def post(path, media, body):
    request = urllib.request.Request(
        REST + path, json.dumps(body).encode(), {"Content-Type": media}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_registers_and_finds(client, ids):
    assert ids[0] > 0
    assert connect().register_schema(SUBJECT, FIRST) == ids[0]
    assert connect().register_schema(SUBJECT, FIRST, normalize_schemas=True) == ids[0]
    found = connect().lookup_schema(SUBJECT, FIRST)
    assert (found.schema_id, found.version, found.subject) == (ids[0], 1, SUBJECT)
    assert json.loads(connect().get_schema(ids[0]).schema_str) == json.loads(FIRST.schema_str)
    assert SUBJECT in client.get_subjects()
    assert client.get_subjects(subject_prefix="python-c") == [SUBJECT]
    assert client.get_schema_types() == ["AVRO"]


def test_evolves(client, ids):
    assert ids[1] != ids[0]
    assert client.get_versions(SUBJECT) == [1, 2]
    latest = client.get_latest_version(SUBJECT)
    assert (latest.schema_id, latest.version) == (ids[1], 2)
    assert client.get_version(SUBJECT, 1).schema_id == ids[0]
    assert client.get_subjects_by_schema_id(ids[1]) == [SUBJECT]
    assert [(v.subject, v.version) for v in client.get_schema_versions(ids[1])] == [(SUBJECT, 2)]


def test_is_refused(client, ids):
    assert client.test_compatibility(SUBJECT, EVOLVED)
    assert not client.test_compatibility(SUBJECT, BROKEN)
    text = refused(lambda: client.register_schema(SUBJECT, BROKEN), 409, 409)
    assert "READER_FIELD_MISSING_DEFAULT_VALUE" in text
    assert client.get_versions(SUBJECT) == [1, 2]


@pytest.mark.parametrize(
    "call, status, code",
    [
        (lambda c: c.get_latest_version("absent"), 404, 40401),
        (lambda c: c.get_version(SUBJECT, 9), 404, 40402),
        (lambda c: c.get_schema(2**31 - 1), 404, 40403),
        (lambda c: c.lookup_schema(SUBJECT, BROKEN), 404, 40403),
        (lambda c: c.register_schema(SUBJECT, Schema("{", "AVRO")), 422, 42201),
        (lambda c: c.register_schema(SUBJECT, Schema("{}", "JSON")), 422, 42201),
        (lambda c: c.get_version(SUBJECT, 0), 422, 42202),
        (lambda c: c.set_compatibility(SUBJECT, "SIDEWAYS"), 422, 42203),
        (lambda c: c.update_mode(SUBJECT, "SIDEWAYS"), 422, 42204),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_says_what_is_wrong(client, ids, call, status, code):
    refused(lambda: call(client), status, code)


def test_levels_and_modes(client):
    subject = "python-settings"
    assert client.get_compatibility() == "BACKWARD"
    client.set_compatibility(subject, "FULL")
    assert client.get_compatibility(subject) == "FULL"
    client.delete_config(subject)
    refused(lambda: client.get_compatibility(subject), 404, 40408)
    assert client.get_global_mode() == "READWRITE"
    client.update_mode(subject, "READONLY")
    assert client.get_mode(subject) == "READONLY"
    refused(lambda: client.register_schema(subject, FIRST), 422, 42205)
    client.delete_mode(subject)
    assert client.register_schema(subject, FIRST) > 0
    assert "." in client.get_contexts()


def test_references(client):
    net = Schema('{"type":"enum","name":"Net","namespace":"sluice.test","symbols":["ci","nc"]}')
    client.register_schema("python-net", net)
    reference = SchemaReference("sluice.test.Net", "python-net", 1)
    station = Schema(
        '{"type":"record","name":"Station","fields":[{"name":"net","type":"sluice.test.Net"}]}',
        "AVRO",
        [reference],
    )
    made = client.register_schema("python-station-value", station)
    assert connect().get_schema(made).references == [reference]
    assert client.get_referenced_by("python-net", 1) == [made]
    refused(lambda: client.delete_version("python-net", 1), 422, 42206)
    serialize = AvroSerializer(client, station)
    context = SerializationContext("python-station", MessageField.VALUE)
    data = serialize({"net": "nc"}, context)
    assert AvroDeserializer(connect())(data, context) == {"net": "nc"}


def test_encodes_and_decodes_logical_types(client):
    schema = Schema(
        json.dumps(
            {
                "type": "record",
                "name": "Sample",
                "fields": [
                    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
                    {"name": "on", "type": {"type": "int", "logicalType": "date"}},
                    {
                        "name": "depth",
                        "type": {
                            "type": "bytes",
                            "logicalType": "decimal",
                            "precision": 9,
                            "scale": 3,
                        },
                    },
                ],
            }
        ),
        "AVRO",
    )
    value = {
        "at": datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=datetime.timezone.utc),
        "on": datetime.date(2018, 2, 7),
        "depth": decimal.Decimal("-26.490"),
    }
    serialize = AvroSerializer(
        client, schema, conf={"subject.name.strategy": record_subject_name_strategy}
    )
    context = SerializationContext("python-sample", MessageField.VALUE)
    data = serialize(value, context)
    assert AvroDeserializer(connect())(data, context) == value
    assert "Sample" in client.get_subjects()


def test_reads_over_grpc_what_rest_encoded_and_the_reverse(client, ids):
    post("/v1/topics", "application/json", {"topic": TOPIC})
    answer = post(
        f"/topics/{TOPIC}",
        "application/vnd.kafka.avro.v2+json",
        {
            "key_schema": '"string"',
            "value_schema_id": ids[1],
            "records": [{"key": "ci1", "value": {**QUAKE, "felt": {"int": 4}}}],
        },
    )
    assert answer["value_schema_id"] == ids[1]
    assert client.get_latest_version(TOPIC + "-key").schema_id == answer["key_schema_id"]
    context = SerializationContext(TOPIC, MessageField.VALUE)
    encoded = AvroSerializer(client, FIRST)(QUAKE, context)
    post(
        f"/topics/{TOPIC}",
        "application/vnd.kafka.binary.v2+json",
        {"records": [{"value": base64.b64encode(encoded).decode()}]},
    )
    with grpc.insecure_channel(GRPC) as channel:
        read = log_pb2_grpc.LogServiceStub(channel).Fetch(
            log_pb2.FetchRequest(topic=TOPIC, max_wait=duration_pb2.Duration(seconds=5)),
            timeout=30,
        )
    decode = AvroDeserializer(connect(), EVOLVED)
    assert decode(read.records[0].value, context) == {**QUAKE, "felt": 4}
    assert decode(read.records[1].value, context) == {**QUAKE, "felt": None}
    keys = AvroDeserializer(connect())
    assert keys(read.records[0].key, SerializationContext(TOPIC, MessageField.KEY)) == "ci1"


def test_a_value_that_does_not_fit_is_refused(ids):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(
            f"/topics/{TOPIC}",
            "application/vnd.kafka.avro.v2+json",
            {"value_schema_id": ids[1], "records": [{"value": {**QUAKE, "felt": 4}}]},
        )
    assert caught.value.code == 422
    assert json.load(caught.value)["error_code"] == 42207


def test_deletes_softly_then_for_good(client, ids):
    refused(lambda: client.delete_subject(SUBJECT, permanent=True), 404, 40405)
    assert client.delete_version(SUBJECT, 1) == 1
    assert client.get_versions(SUBJECT) == [2]
    assert client.delete_subject(SUBJECT) == [2]
    assert SUBJECT not in client.get_subjects()
    assert SUBJECT in client.get_subjects(deleted=True)
    assert connect().get_schema(ids[1])
    assert client.delete_subject(SUBJECT, permanent=True) == [1, 2]
    refused(lambda: connect().get_schema(ids[1]), 404, 40403)
