// An Auth Service for tests: the answers of the real one's contract, and every way to fail. No packages.
//
//   node server.mjs [--exit-with-stdin]
//
// PORT (default 0: any free one), HOST (127.0.0.1), MODE (default ok), RATE_LIMIT (questions a minute and
// user, the real one's is 60; default none).
//
// Routes, with and without /api in front: GET /user, POST /verify, POST /login, GET /health.
// Tokens: see TOKENS; any other is 401. Login: any of their users with the password `secret`.
// Modes: see MODES. One is chosen for all requests by MODE or POST /control {"mode":"slow"}, or for one
// client by its base URL: http://127.0.0.1:PORT/mode/slow/api
// GET /control tells how often what was asked: {"mode","requests":{"GET /user":3},"elsewhere":0}; `elsewhere`
// counts redirects that were followed.
//
// Prints one JSON object a line: {"event":"listening","port"}, {"event":"request","method","path","status"}.
import { createServer } from 'node:http';

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const DATE = '2025-03-25T16:17:12.000000Z';

const permission = (id, name) => ({
  id, name, guard_name: 'web', created_at: DATE, updated_at: DATE, pivot: { role_id: 1, permission_id: id },
});
const role = (id, name, permissions) => ({
  id, name, guard_name: 'web', created_at: DATE, updated_at: DATE,
  pivot: { model_type: 'App\\Models\\User', model_id: 1, role_id: id },
  permissions,
});
const user = (id, username, roles) => ({
  id, name: username[0].toUpperCase() + username.slice(1), username, email: `${username}@example.com`,
  email_verified_at: null, created_at: DATE, updated_at: DATE, roles,
});

const AGENT_PERMISSIONS = ['view', 'create', 'update', 'delete', 'run'].map((verb, n) => permission(11 + n, `${verb} agents`));
const ADMIN = role(1, 'admin', [permission(1, 'view users'), permission(2, 'manage users'), ...AGENT_PERMISSIONS]);
const USER = role(2, 'user', AGENT_PERMISSIONS);
const GUEST = role(3, 'guest', [permission(11, 'view agents')]);

const ALICE = user(2, 'alice', [USER]);
const TOKENS = new Map([
  ['admin-token', user(1, 'admin', [ADMIN])],
  ['alice-token', ALICE],
  ['alice-other-token', ALICE], // the same user, logged in twice
  ['bob-token', user(3, 'bob', [USER])],
  ['guest-token', user(4, 'guest', [GUEST])], // without `run agents`
  ['roleless-token', user(5, 'roleless', [])],
]);
const DISABLED_TOKEN = 'disabled-token'; // 403
// `logged-out-token` and `expired-token` are 401, as any other text.

const json = (response, status, body, headers = {}) => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
};
const html = (response, status, text) => {
  response.writeHead(status, { 'content-type': 'text/html; charset=UTF-8' });
  response.end(`<!DOCTYPE html><html><body>${text}</body></html>`);
};
const answerJson = (body) => (_request, response) => json(response, 200, body);

// What happens to a request about a token, other than the right answer.
const MODES = {
  slow: (request, response) => setTimeout(() => answer(request, response), Number(process.env.SLOW_MS ?? 30_000)).unref(),
  silent: () => {},
  drip: (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    const timer = setInterval(() => response.write(' '), 1_000);
    response.on('close', () => clearInterval(timer));
  },
  broken: (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': 1_000 });
    response.write('{"user":{"id":2,"username":"alice",', () => response.destroy());
  },
  reset: (request) => request.socket.resetAndDestroy(),
  html: (_request, response) => html(response, 200, 'Welcome'),
  empty: answerJson({}),
  nullid: answerJson({ user: { ...ALICE, id: null } }),
  types: answerJson({ user: { ...ALICE, roles: 'admin' } }),
  error200: answerJson({ message: 'Unauthenticated.' }),
  huge: (_request, response) => json(response, 200, { padding: 'x'.repeat(10 * 1024 * 1024), user: ALICE }),
  endless: (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    const more = () => { while (!response.destroyed && response.write(' '.repeat(16_384))); };
    response.on('drain', more);
    more();
  },
  redirect: (_request, response) => {
    response.writeHead(302, { location: `http://${HOST}:${server.address().port}/elsewhere/user` });
    response.end();
  },
  500: (_request, response) => html(response, 500, 'Server Error'),
  503: (_request, response) => json(response, 503, { message: 'Service Unavailable' }, { 'retry-after': '2' }),
  limit: (_request, response) => tooMany(response, 2),
};

const HOST = process.env.HOST ?? '127.0.0.1';
const RATE_LIMIT = Number(process.env.RATE_LIMIT ?? 0);
const windows = new Map();
const requests = {};
let mode = process.env.MODE ?? 'ok';
let elsewhere = 0;

const server = createServer((request, response) => {
  const path = request.url.split('?')[0];
  response.on('close', () => print({ event: 'request', method: request.method, path, status: response.statusCode }));
  if (path === '/control') {
    return control(request, response);
  }
  if (path === '/elsewhere/user') {
    elsewhere += 1;
    return json(response, 200, { user: ALICE });
  }
  const [, chosen, rest] = path.match(/^\/mode\/([^/]+)(\/.*)$/) ?? [null, mode, path];
  const route = `${request.method} ${rest.replace(/^\/api(?=\/)/, '')}`;
  requests[route] = (requests[route] ?? 0) + 1;
  request.route = route;
  const isAboutToken = route === 'GET /user' || route === 'POST /verify';
  if (isAboutToken && chosen !== 'ok') {
    const fail = MODES[chosen];
    return fail ? fail(request, response) : json(response, 404, { message: `no mode ${chosen}` });
  }
  answer(request, response);
});

function answer(request, response) {
  switch (request.route) {
    case 'GET /health':
      return json(response, 200, { status: 'ok', timestamp: new Date().toISOString().slice(0, 19).replace('T', ' ') });
    case 'GET /user':
      return aboutToken(request, response, {
        known: (user) => json(response, 200, { user }),
        // Without the header the real one looks for a page to log in, which it has not.
        unknown: () => (request.headers.accept ?? '').includes('json')
          ? json(response, 401, { message: 'Unauthenticated.' })
          : html(response, 500, 'Route [login] not defined.'),
      });
    case 'POST /verify':
      return aboutToken(request, response, {
        known: (user) => json(response, 200, {
          valid: true,
          user,
          roles: user.roles.map((role) => role.name),
          permissions: [...new Set(user.roles.flatMap((role) => role.permissions.map((each) => each.name)))],
        }),
        unknown: () => json(response, 401, { valid: false, message: 'Invalid token' }),
      });
    case 'POST /login':
      return login(request, response);
    default:
      return html(response, 404, 'Not Found');
  }
}

function aboutToken(request, response, { known, unknown }) {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  const user = TOKENS.get(token);
  if (RATE_LIMIT > 0) {
    const who = user?.id ?? request.socket.remoteAddress;
    const seconds = overLimit(request.route === 'GET /user' ? who : request.socket.remoteAddress);
    if (seconds > 0) return tooMany(response, seconds);
  }
  if (token === DISABLED_TOKEN) return json(response, 403, { message: 'This account is disabled.' });
  return user ? known(user) : unknown();
}

/** Counts a question; returns the seconds to wait when there were too many. */
function overLimit(who) {
  const now = Date.now();
  const window = windows.get(who);
  if (!window || window.ends <= now) {
    windows.set(who, { ends: now + 60_000, count: 1 });
    return 0;
  }
  window.count += 1;
  return window.count > RATE_LIMIT ? Math.ceil((window.ends - now) / 1_000) : 0;
}

function tooMany(response, seconds) {
  json(response, 429, { message: 'Too Many Attempts.' }, {
    'retry-after': String(seconds), 'x-ratelimit-limit': String(RATE_LIMIT || 60), 'x-ratelimit-remaining': '0',
  });
}

async function read(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  try { return JSON.parse(text); } catch { return {}; }
}

async function login(request, response) {
  const { username, email, password } = await read(request);
  const found = [...TOKENS].find(([, user]) => user.username === username || user.email === email);
  if (!found || password !== 'secret') {
    return json(response, 422, { message: 'The provided credentials are incorrect.' });
  }
  json(response, 200, { user: found[1], token: found[0], token_type: 'Bearer', expires_in: 3600 });
}

async function control(request, response) {
  if (request.method === 'POST') {
    const wanted = (await read(request)).mode;
    if (wanted !== 'ok' && !MODES[wanted]) {
      return json(response, 400, { message: `modes are ok, ${Object.keys(MODES).join(', ')}` });
    }
    mode = wanted;
  }
  json(response, 200, { mode, requests, elsewhere });
}

server.listen(Number(process.env.PORT ?? 0), HOST, () => print({ event: 'listening', port: server.address().port }));

if (process.argv.includes('--exit-with-stdin')) {
  process.stdin.on('end', () => process.exit(0)).resume();
}
