// @confluentinc/schemaregistry against a node.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  AvroDeserializer, AvroSerializer, Compatibility, SchemaRegistryClient, SerdeType,
} from '@confluentinc/schemaregistry'
import { createTopic, fetchValues, produceAvro, quakes, registry } from './node.mjs'

const topic = 'node-confluent'
const subject = `${topic}-value`
const { first, evolved, broken } = quakes('sluice.test.confluent')
const quake = { place: 'Île d\'Oléron', mag: 5.1 }

function connect() {
  return new SchemaRegistryClient({ baseURLs: [registry], maxRetries: 0 })
}

const client = connect()

function info(schema) {
  return { schemaType: 'AVRO', schema: JSON.stringify(schema) }
}

let id
let newer

test('confluentinc registers, and finds what it registered', async () => {
  id = await client.register(subject, info(first), false)
  assert.ok(id > 0)
  assert.equal(await connect().register(subject, info(first), true), id)
  assert.equal(await client.getId(subject, info(first), false), id)
  assert.equal(await client.getVersion(subject, info(first), false, false), 1)
  const latest = await client.getLatestSchemaMetadata(subject)
  assert.deepEqual([latest.id, latest.version, latest.subject], [id, 1, subject])
  assert.deepEqual(JSON.parse((await connect().getBySubjectAndId(subject, id)).schema), first)
  const full = await connect().registerFullResponse(subject, info(first), false)
  assert.equal(full.id, id)
  assert.ok((await client.getAllSubjects()).includes(subject))
})

test('confluentinc evolves', async () => {
  assert.equal(await client.testSubjectCompatibility(subject, info(evolved)), true)
  newer = await client.register(subject, info(evolved), false)
  assert.notEqual(newer, id)
  assert.deepEqual(await client.getAllVersions(subject), [1, 2])
})

test('confluentinc is refused with 409', async () => {
  assert.equal(await client.testCompatibility(subject, 2, info(broken)), false)
  await assert.rejects(client.register(subject, info(broken), false), (error) => {
    assert.equal(error.status, 409)
    assert.equal(error.errorCode, 409)
    assert.match(error.message, /READER_FIELD_MISSING_DEFAULT_VALUE/)
    return true
  })
})

test('confluentinc is told what is wrong, by number', async () => {
  for (const [call, status, errorCode] of [
    [() => client.getLatestSchemaMetadata('absent'), 404, 40401],
    [() => client.getSchemaMetadata(subject, 9, false), 404, 40402],
    [() => connect().getBySubjectAndId(subject, 2 ** 31 - 1), 404, 40403],
    [() => client.getCompatibility(subject), 404, 40408],
    [() => client.register(subject, { schemaType: 'AVRO', schema: '{' }, false), 422, 42201],
    [() => client.updateCompatibility(subject, 'SIDEWAYS'), 422, 42203],
  ]) {
    await assert.rejects(call(), { status, errorCode })
  }
})

test('confluentinc changes a level', async () => {
  await client.updateCompatibility(subject, Compatibility.NONE)
  assert.equal(await client.getCompatibility(subject), Compatibility.NONE)
  assert.equal(await client.testSubjectCompatibility(subject, info(broken)), true)
  await client.updateCompatibility(subject, Compatibility.FULL_TRANSITIVE)
  assert.equal(await client.testSubjectCompatibility(subject, info(broken)), false)
})

test('confluentinc resolves references', async () => {
  const net = { type: 'record', name: 'Net', namespace: 'sluice.test', fields: [
    { name: 'code', type: 'string' }] }
  await client.register('node-net', info(net), false)
  const station = { type: 'record', name: 'Station', namespace: 'sluice.test', fields: [
    { name: 'net', type: 'sluice.test.Net' }] }
  const references = [{ name: 'sluice.test.Net', subject: 'node-net', version: 1 }]
  const made = await client.register('node-station', { ...info(station), references }, false)
  const found = await connect().getBySubjectAndId('node-station', made)
  assert.deepEqual(found.references, references)
  await assert.rejects(client.deleteSubject('node-net', false), { errorCode: 42206 })
})

test('confluentinc encodes and decodes', async () => {
  const serializer = new AvroSerializer(connect(), SerdeType.VALUE, { useLatestVersion: true })
  const deserializer = new AvroDeserializer(connect(), SerdeType.VALUE, {})
  const bytes = await serializer.serialize(topic, { ...quake, felt: 2 })
  assert.equal(bytes.readInt32BE(1), newer)
  assert.deepEqual({ ...await deserializer.deserialize(topic, bytes) }, { ...quake, felt: 2 })
})

test('confluentinc reads over gRPC what REST encoded', async () => {
  await createTopic(topic)
  const answer = await produceAvro(topic, {
    value_schema: JSON.stringify(evolved), records: [{ value: { ...quake, felt: null } }],
  })
  assert.equal(answer.status, 200, JSON.stringify(answer.body))
  assert.equal(answer.body.value_schema_id, newer, 'the schema is the one that is there')
  const refused = await produceAvro(topic, {
    value_schema: JSON.stringify(broken), records: [{ value: { ...quake, felt: null, net: '' } }],
  })
  assert.deepEqual([refused.status, refused.body.error_code], [408, 40801])
  const [value] = await fetchValues(topic)
  const deserializer = new AvroDeserializer(connect(), SerdeType.VALUE, {})
  assert.deepEqual({ ...await deserializer.deserialize(topic, value) }, { ...quake, felt: null })
})

test('confluentinc deletes softly, then for good', async () => {
  await assert.rejects(client.deleteSubject(subject, true), { errorCode: 40405 })
  assert.deepEqual(await client.deleteSubject(subject, false), [1, 2])
  assert.deepEqual(JSON.parse((await connect().getBySubjectAndId('', newer)).schema), evolved)
  assert.deepEqual(await client.deleteSubject(subject, true), [1, 2])
  await assert.rejects(connect().getBySubjectAndId('', newer), { errorCode: 40403 })
})
