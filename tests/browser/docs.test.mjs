// Opens /docs and /docs/swagger of a node of its own in a headless browser,
// uses them, and fails on any request to another origin, any console error and
// any violation of the Content-Security-Policy.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { chromium } from 'playwright-core'

const binary = process.env.SLUICE
const timeout = 60_000 // of a test
const step = 15_000 // of a click in it

let folder
let node
let browser
let origin

// startNode starts a node on free ports and returns the URL of its HTTP side.
async function startNode() {
  node = spawn(binary, ['serve', '--data-dir', join(folder, 'data'), '--log-level', 'error',
    '--grpc-listen', '127.0.0.1:0', '--http-listen', '127.0.0.1:0'],
  { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...closedPorts() } })
  let text = ''
  return new Promise((resolve, reject) => {
    const read = (chunk) => {
      text += chunk
      const found = /http:\/\/127\.0\.0\.1:\d+(?=\/docs)/.exec(text)
      if (found) resolve(found[0])
    }
    node.stdout.on('data', read)
    node.stderr.on('data', read)
    node.on('exit', (code) => reject(new Error(`the node ended with ${code}:\n${text}`)))
    setTimeout(() => reject(new Error(`no URL within ${timeout} ms:\n${text}`)), timeout).unref()
  })
}

// closedPorts keeps listeners that have no flag here from clashing with others.
function closedPorts() {
  return { SLUICE_REGISTRY_LISTEN: '127.0.0.1:0' }
}

async function call(method, path, body) {
  const answer = await fetch(origin + path, {
    method,
    headers: body ? { 'Content-Type': 'application/json' } : {},
    body: body && JSON.stringify(body),
  })
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`)
  return answer.json()
}

// open returns a page and what went wrong on it so far.
async function open(path) {
  const context = await browser.newContext()
  const page = await context.newPage()
  const wrong = []
  await context.route('**/*', (route) => {
    const url = route.request().url()
    if (url.startsWith(origin + '/') || url.startsWith('data:') || url.startsWith('blob:')) {
      return route.continue()
    }
    wrong.push(`a request to ${url}`)
    return route.abort()
  })
  page.on('websocket', (socket) => wrong.push(`a socket to ${socket.url()}`))
  page.on('console', (message) => {
    if (message.type() === 'error') wrong.push(`console: ${message.text()}`)
  })
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`))
  page.on('requestfailed', (request) => {
    const reason = request.failure()?.errorText
    if (reason !== 'net::ERR_ABORTED') wrong.push(`${request.url()} failed: ${reason}`)
  })
  await page.addInitScript(() => {
    globalThis.violations = []
    document.addEventListener('securitypolicyviolation', (event) => {
      globalThis.violations.push(`${event.violatedDirective}: ${event.blockedURI}`)
    })
  })
  const answer = await page.goto(origin + path, { waitUntil: 'load', timeout })
  assert.equal(answer.status(), 200)
  return { context, page, wrong }
}

// settle waits for the last requests, and fails if anything went wrong.
async function settle({ context, page, wrong }) {
  await page.waitForLoadState('networkidle', { timeout })
  const violations = await page.evaluate(() => globalThis.violations)
  assert.deepEqual([...wrong, ...violations], [])
  await context.close()
}

before(async () => {
  assert.ok(binary, 'SLUICE is the path of the binary')
  folder = await mkdtemp(join(tmpdir(), 'sluice-browser-'))
  origin = await startNode()
  await call('POST', '/v1/topics', { topic: 'from-the-browser', partition_count: 3 })
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  })
}, { timeout })

after(async () => {
  await browser?.close()
  if (node && node.exitCode === null) {
    node.removeAllListeners('exit')
    const ended = once(node, 'exit')
    node.kill('SIGTERM')
    await ended
  }
  if (folder) await rm(folder, { recursive: true, force: true })
}, { timeout })

test('Scalar shows the operations and sends a request', { timeout }, async () => {
  const opened = await open('/docs')
  const { page } = opened
  await page.getByRole('heading', { name: 'Sluice' }).first().waitFor({ timeout: step })
  await page.getByRole('button', { name: /^Topics/ }).first().click({ timeout: step })
  await page.getByRole('button', { name: /^List topics/ }).first().click({ timeout: step })
  await page.getByRole('button', { name: 'Test Request (get /v1/topics)' })
    .click({ timeout: step })
  const sent = page.waitForResponse((answer) =>
    new URL(answer.url()).pathname === '/v1/topics', { timeout })
  await page.getByRole('button', { name: /^Send get request/ }).click({ timeout: step })
  const answer = await sent
  assert.equal(answer.status(), 200)
  assert.match(await answer.text(), /from-the-browser/)
  await settle(opened)
})

test('Swagger UI shows the operations and sends a request', { timeout }, async () => {
  const opened = await open('/docs/swagger')
  const { page } = opened
  const operation = page.locator('#operations-Topics-listTopics')
  await operation.locator('.opblock-summary-control').click({ timeout })
  const sent = page.waitForResponse((answer) =>
    new URL(answer.url()).pathname === '/v1/topics', { timeout })
  await operation.locator('button.execute').click({ timeout })
  const answer = await sent
  assert.equal(answer.status(), 200)
  assert.match(await answer.text(), /from-the-browser/)
  await operation.locator('.live-responses-table').getByText('from-the-browser')
    .first().waitFor({ timeout })
  await settle(opened)
})

test('an event stream reaches a page', { timeout }, async () => {
  const opened = await open('/docs/swagger')
  const { page } = opened
  const received = page.evaluate(() => new Promise((resolve, reject) => {
    const events = new EventSource('/v1/topics/from-the-browser/records:stream?from=earliest')
    events.onmessage = (event) => {
      events.close()
      resolve({ id: event.lastEventId, record: JSON.parse(event.data) })
    }
    events.onerror = () => reject(new Error('the stream failed'))
  }))
  await call('POST', '/v1/topics/from-the-browser/records', {
    records: [{ value: 'aGVsbG8=', partition: 1 }],
  })
  const { id, record } = await received
  assert.equal(record.value, 'aGVsbG8=')
  assert.equal(id, '0:0,1:1,2:0')
  await settle(opened)
})

// What a page would run if it took text for markup.
const script = '<script>globalThis.ran = true</script><img src="x" onerror="globalThis.ran = true">'

// Swagger's ids of operations have underscores for spaces.
const swagger = (page, tag, id) =>
  page.locator(`[id="operations-${tag.replaceAll(' ', '_')}-${id}"]`)

// fill sets a parameter of an operation.
async function fill(operation, name, value) {
  await operation.locator(`tr[data-param-name="${name}"] input`).fill(value, { timeout })
}

test('a record is written through v3 on a page, and read back as text, not as markup',
  { timeout: 2 * timeout }, async () => {
    const [cluster] = (await call('GET', '/v3/clusters')).data
    await call('POST', '/v1/topics', { topic: 'markup' })
    const opened = await open('/docs/swagger')
    const { page } = opened

    const write = swagger(page, 'REST Proxy v3', 'v3Produce')
    await write.locator('.opblock-summary-control').click({ timeout })
    await fill(write, 'cluster', cluster.cluster_id)
    await fill(write, 'topic', 'markup')
    await write.locator('textarea.body-param__text').fill(JSON.stringify({
      key: { type: 'STRING', data: script },
      value: { type: 'STRING', data: script },
      headers: [{ name: script, value: 'AQ==' }],
    }), { timeout })
    const written = page.waitForResponse((answer) =>
      new URL(answer.url()).pathname.startsWith('/v3/clusters/'), { timeout })
    await write.locator('button.execute').click({ timeout })
    const receipt = JSON.parse(await (await written).text())
    assert.equal(receipt.error_code, 200)
    assert.equal(receipt.offset, 0)
    await write.locator('.live-responses-table').getByText('"topic_name": "markup"')
      .first().waitFor({ timeout })

    const read = swagger(page, 'REST Proxy v2', 'v2Read')
    await read.locator('.opblock-summary-control').click({ timeout })
    await fill(read, 'topic', 'markup')
    await fill(read, 'partition', '0')
    await read.locator('.response-controls select, select.content-type').first()
      .selectOption('application/vnd.kafka.text.v2+json', { timeout })
    const seen = page.waitForResponse((answer) =>
      new URL(answer.url()).pathname === '/topics/markup/partitions/0/records', { timeout })
    await read.locator('button.execute').click({ timeout })
    const [record] = await (await seen).json()
    assert.equal(record.key, script)
    assert.equal(record.value, script)
    assert.equal(record.headers[0].key, script)
    const shown = read.locator('.live-responses-table')
    await shown.getByText('globalThis.ran = true').first().waitFor({ timeout })
    assert.equal(await shown.locator('script, img').count(), 0)
    assert.equal(await page.evaluate(() => globalThis.ran), undefined)
    await settle(opened)
  })

test('an answer that is opened as a page is text, not markup', { timeout }, async () => {
  const opened = await open('/topics/markup/partitions/0/records')
  const { context, page, wrong } = opened
  for (const [path, status] of [
    ['/topics/markup/partitions/0/records', 200],
    [`/topics/${encodeURIComponent(script)}/partitions/0/records`, 400],
    [`/topics/markup/partitions/0/records?offset=${encodeURIComponent(script)}`, 400],
    [`/v1/topics/markup/records?${encodeURIComponent(script)}`, 405],
    [`/${encodeURIComponent(script)}`, 404],
  ]) {
    const answer = await page.goto(origin + path, { waitUntil: 'load', timeout })
    assert.equal(answer.status(), status, path)
    assert.match(answer.headers()['content-type'], /json/, path)
    assert.equal(answer.headers()['x-content-type-options'], 'nosniff', path)
    if (status === 200) assert.match(await page.textContent('body'), /<script>/)
    assert.equal(await page.locator('body script, body img').count(), 0, path)
    assert.equal(await page.evaluate(() => globalThis.ran), undefined, path)
  }
  const unforeseen = (text) => !text.startsWith('console: Failed to load resource')
  assert.deepEqual(wrong.filter(unforeseen), [])
  await context.close()
})

test('an event stream goes on where the page was, and chooses records', { timeout }, async () => {
  const opened = await open('/docs/swagger')
  const { page } = opened
  const encoded = Buffer.from(script).toString('base64')
  await call('POST', '/v1/topics/markup/records', {
    records: [{ key: 'YQ==', value: 'Mg==' }, { key: encoded, value: encoded }],
  })
  // follow returns the first events of a stream, each as its id and its record.
  const follow = (query, count) => page.evaluate(({ query, count }) =>
    new Promise((resolve, reject) => {
      const got = []
      const events = new EventSource(`/v1/topics/markup/records:stream?${query}`)
      events.onmessage = (event) => {
        got.push([event.lastEventId, JSON.parse(event.data)])
        if (got.length < count) return
        events.close()
        resolve(got)
      }
      events.onerror = () => reject(new Error('the stream failed'))
    }), { query, count })
  const all = await follow('from=earliest', 3)
  assert.deepEqual(all.map(([id, record]) => [id, record.offset]),
    [['0:1', '0'], ['0:2', '1'], ['0:3', '2']])
  const [last] = await follow(`from=${all[1][0]}`, 1)
  assert.deepEqual(last, all[2])
  const [chosen] = await follow('from=earliest&key=a', 1)
  assert.equal(chosen[1].value, 'Mg==')
  await settle(opened)
})

test('a WebSocket reaches a page', { timeout }, async () => {
  const opened = await open('/docs/swagger')
  const { page, wrong } = opened
  const address = origin.replace('http:', 'ws:') + '/v1/topics/markup/records:stream?from=earliest'
  const text = await page.evaluate((address) => new Promise((resolve, reject) => {
    const socket = new WebSocket(address)
    socket.onmessage = (event) => {
      socket.close()
      resolve(event.data)
    }
    socket.onerror = () => reject(new Error('the socket failed'))
  }), address)
  assert.equal(Buffer.from(JSON.parse(text).value, 'base64').toString(), script)
  assert.deepEqual(wrong.splice(0), [`a socket to ${address}`])
  await settle(opened)
})
