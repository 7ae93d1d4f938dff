// What both tests need of a node: its addresses, topics and records over REST
// and gRPC.
import assert from 'node:assert/strict'
import grpc from '@grpc/grpc-js'
import loader from '@grpc/proto-loader'

export const registry = address('SLUICE_TEST_REGISTRY')
const rest = address('SLUICE_TEST_HTTP')

function address(name) {
  const value = process.env[name]
  assert.ok(value, `${name} is not set; use run.sh`)
  return value
}

// quakes returns the schemas that a test evolves, in a namespace of its own: the
// evolved one has a field more, with a default, and the broken one another
// without.
export function quakes(namespace) {
  const fields = [{ name: 'place', type: 'string' }, { name: 'mag', type: 'double' }]
  const first = { type: 'record', name: 'Quake', namespace, fields }
  const felt = { name: 'felt', type: ['null', 'int'], default: null }
  const evolved = { ...first, fields: [...fields, felt] }
  const broken = { ...first, fields: [...fields, felt, { name: 'net', type: 'string' }] }
  return { first, evolved, broken }
}

async function post(path, type, body) {
  const answer = await fetch(rest + path, {
    method: 'POST', headers: { 'Content-Type': type }, body: JSON.stringify(body),
  })
  return { status: answer.status, body: await answer.json() }
}

export async function createTopic(topic) {
  const answer = await post('/v1/topics', 'application/json', { topic })
  assert.equal(answer.status, 200, JSON.stringify(answer.body))
}

// produceAvro lets the REST Proxy encode.
export function produceAvro(topic, body) {
  return post(`/topics/${topic}`, 'application/vnd.kafka.avro.v2+json', body)
}

// produceBinary sends what a client has encoded.
export function produceBinary(topic, value) {
  return post(`/topics/${topic}`, 'application/vnd.kafka.binary.v2+json',
    { records: [{ value: value.toString('base64') }] })
}

// fetchValues reads a topic of one partition with a client made of the protos.
export function fetchValues(topic) {
  const definition = loader.loadSync('sluice/v1/log.proto', {
    includeDirs: process.env.SLUICE_TEST_PROTOS.split(':'), longs: String,
  })
  const { LogService } = grpc.loadPackageDefinition(definition).sluice.v1
  const client = new LogService(address('SLUICE_TEST_GRPC'), grpc.credentials.createInsecure())
  return new Promise((resolve, reject) => {
    client.Fetch({ topic, partition: 0, offset: 0, max_wait: { seconds: 5 } },
      (error, answer) => {
        client.close()
        if (error) reject(error)
        else resolve(answer.records.map((record) => record.value))
      })
  })
}
