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
