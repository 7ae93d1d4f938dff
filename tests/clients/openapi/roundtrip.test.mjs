// Sends records through a client that was made of the OpenAPI document. It is
// told no address: the document names the node that served it.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'

const sluice = createRequire(import.meta.url)(`${process.env.SLUICE_TEST_CLIENT}/index.js`)
const topic = `typescript-${process.pid}`
const base64 = (text) => Buffer.from(text).toString('base64')

// good returns the answer of a call, which must have succeeded.
async function good(call) {
  const { data, error, response } = await call
  assert.equal(error, undefined, JSON.stringify(error))
  assert.ok(response.ok, String(response.status))
  return data
}

test('v1: a record goes in once and comes out', async () => {
  await good(sluice.createTopic({ body: { topic, partition_count: 2 } }))
  const send = () => sluice.produce({
    path: { topic },
    headers: { 'Idempotency-Key': '"round-trip"' },
    body: { records: [{ key: base64('LAX'), value: base64('{}'), partition: 1,
      headers: [{ name: 'source', value: base64('tower') }] }] },
  })
  const first = await good(send())
  assert.equal(first.results[0].offset, '0')
  assert.equal((await good(send())).results[0].offset, '0')
  const page = await good(sluice.fetchRecords({ path: { topic, partition: 1 }, query: { offset: '0' } }))
  assert.deepEqual(page.records.map((record) => record.value), [base64('{}')])
  assert.equal(page.records[0].headers[0].name, 'source')
  assert.equal(page.next_offset, '1')
})

test('v1: an error has a reason', async () => {
  const { error, response } = await sluice.getTopic({ path: { topic: 'absent' } })
  assert.equal(response.status, 404)
  assert.equal(error.reason, 'UNKNOWN_TOPIC_OR_PARTITION')
})

test('v2 and v3: the same topic', async () => {
  const sent = await good(sluice.v2Produce({
    path: { topic }, headers: { 'Content-Type': 'application/vnd.kafka.binary.v2+json' },
    body: { records: [{ value: base64('v2'), partition: 0 }] },
  }))
  assert.equal(sent.offsets[0].offset, 0)
  const clusters = await good(sluice.v3Clusters())
  const cluster = clusters.data[0].cluster_id
  const topics = await good(sluice.v3Topics({ path: { cluster } }))
  assert.ok(topics.data.some((one) => one.topic_name === topic))
})

test('the registry has its own port', async () => {
  const subject = `${topic}-value`
  const baseUrl = process.env.SLUICE_TEST_REGISTRY // openapi-ts knows one server only
  const { id } = await good(sluice.registryRegisterSchema({
    baseUrl, path: { subject }, body: { schema: '"string"' },
  }))
  assert.ok(id > 0)
  assert.ok((await good(sluice.registryListSubjects({ baseUrl }))).includes(subject))
})
