// @kafkajs/confluent-schema-registry against a node.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import kafkajs from '@kafkajs/confluent-schema-registry'
import {
  createTopic, fetchValues, produceAvro, produceBinary, quakes, registry,
} from './node.mjs'

const { SchemaRegistry, SchemaType } = kafkajs
const { first, evolved, broken } = quakes('sluice.test.kafkajs')
const client = new SchemaRegistry({ host: registry, retry: { retries: 0 } })
const topic = 'node-kafkajs'
const subject = `${topic}-value`
const quake = { place: 'Ridgecrest ⛰', mag: -0.25 }

function register(schema) {
  return client.register({ type: SchemaType.AVRO, schema: JSON.stringify(schema) }, { subject })
}

let id
let newer

test('kafkajs registers, and finds what it registered', async () => {
  ({ id } = await register(first))
  assert.ok(id > 0)
  assert.equal((await register(first)).id, id)
  assert.equal(await client.getLatestSchemaId(subject), id)
  assert.equal(await client.getRegistryId(subject, 1), id)
  assert.equal(await client.getRegistryIdBySchema(subject,
    { type: SchemaType.AVRO, schema: JSON.stringify(first) }), id)
})

test('kafkajs evolves', async () => {
  newer = (await register(evolved)).id
  assert.notEqual(newer, id)
  assert.equal(await client.getRegistryId(subject, 2), newer)
})

test('kafkajs is refused with 409', async () => {
  await assert.rejects(register(broken), (error) => {
    assert.equal(error.status, 409)
    assert.match(error.message, /READER_FIELD_MISSING_DEFAULT_VALUE/)
    return true
  })
  assert.equal(await client.getLatestSchemaId(subject), newer)
})

test('kafkajs is told what is not there', async () => {
  await assert.rejects(client.getLatestSchemaId('absent'), { status: 404 })
  await assert.rejects(client.getSchema(2 ** 31 - 1), { status: 404 })
})

test('kafkajs encodes and decodes', async () => {
  const other = new SchemaRegistry({ host: registry }) // with an empty cache
  const old = await client.encode(id, quake)
  assert.deepEqual({ ...await other.decode(old) }, quake)
  const read = await other.decode(await client.encode(newer, { ...quake, felt: 3 }))
  assert.deepEqual({ ...read }, { ...quake, felt: 3 })
  const resolved = await other.decode(old, { [SchemaType.AVRO]: { readerSchema: evolved } })
  assert.deepEqual({ ...resolved }, { ...quake, felt: null })
})

test('kafkajs reads over gRPC what REST encoded, and the reverse', async () => {
  await createTopic(topic)
  const answer = await produceAvro(topic, {
    value_schema_id: newer, records: [{ value: { ...quake, felt: { int: 7 } } }],
  })
  assert.equal(answer.status, 200, JSON.stringify(answer.body))
  assert.equal(answer.body.value_schema_id, newer)
  const encoded = await client.encode(newer, { ...quake, felt: null })
  assert.equal((await produceBinary(topic, encoded)).status, 200)
  const values = await fetchValues(topic)
  assert.equal(values.length, 2)
  assert.deepEqual({ ...await client.decode(values[0]) }, { ...quake, felt: 7 })
  assert.deepEqual(values[1], encoded)
})
