// A Socket Service for tests: the routes, limits, rooms and events of the real one's contract.
//
//   node server.mjs [--exit-with-stdin]
//
// PORT (default 0: any free one), HOST (127.0.0.1). With AUTH_SERVICE_URL, a browser's token is checked at
// `GET {AUTH_SERVICE_URL}/user`; without it, any token is taken.
//
// Prints one JSON object a line: {"event":"listening","port"}, {"event":"post","path","status","body"} for
// each update, {"event":"joined","user","executionId"}.
import { createServer } from 'node:http';
import express from 'express';
import { Server } from 'socket.io';

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const executions = new Map(); // never evicted, lost at a restart: as the real one

const app = express();
const server = createServer(app);
const io = new Server(server, { cors: { origin: '*' } });

app.use((request, response, next) => {
  response.on('finish', () => {
    if (request.method === 'POST') {
      print({ event: 'post', path: request.path, status: response.statusCode, body: request.body ?? null });
    }
  });
  next();
});
app.use(express.json()); // its default limit, 102,400 bytes, is part of the contract

app.get('/health', (_request, response) => response.json({ status: 'ok' }));

app.post('/api/execution-status', (request, response) => {
  const { executionId, status, progress, output, error } = request.body;
  if (!executionId) {
    return response.status(400).json({ error: 'Execution ID is required' });
  }
  executions.set(executionId, { status, progress, output, error, updatedAt: new Date() });
  io.to(`execution:${executionId}`).emit('execution-status', { executionId, status, progress, output, error });
  response.json({ success: true });
});

app.post('/api/start-execution', (request, response) => {
  const { executionId, agent, userId, input } = request.body;
  if (!executionId || !agent || !userId) {
    return response.status(400).json({ error: 'Missing required fields' });
  }
  executions.set(executionId, { status: 'queued', progress: 0 });
  io.to(`user:${userId}`).emit('execution-started', { executionId, agent, input });
  response.json({ success: true });
});

io.use(async (socket, next) => {
  const token = socket.handshake.auth?.token;
  if (!token) {
    return next(new Error('Authentication error: no token'));
  }
  try {
    socket.data.user = await userOf(token);
    next();
  } catch (error) {
    next(new Error(`Authentication error: ${error.message}`));
  }
});

async function userOf(token) {
  const base = process.env.AUTH_SERVICE_URL;
  if (!base) {
    return { id: 1 };
  }
  const response = await fetch(`${base}/user`, {
    headers: { authorization: `Bearer ${token}`, accept: 'application/json' },
    redirect: 'error',
  });
  if (!response.ok) {
    throw new Error(`the Auth Service answered ${response.status}`);
  }
  return (await response.json()).user;
}

io.on('connection', (socket) => {
  const user = String(socket.data.user.id);
  socket.join(`user:${user}`);
  // The acknowledgement is this peer's own: tests wait for it.
  socket.on('join-execution', (executionId, acknowledge) => {
    socket.join(`execution:${executionId}`);
    const known = executions.get(executionId);
    if (known) {
      socket.emit('execution-status', { executionId, status: known.status, progress: known.progress });
    }
    print({ event: 'joined', user, executionId });
    if (typeof acknowledge === 'function') acknowledge();
  });
  socket.on('leave-execution', (executionId) => socket.leave(`execution:${executionId}`));
});

server.listen(Number(process.env.PORT ?? 0), process.env.HOST ?? '127.0.0.1', () => {
  print({ event: 'listening', port: server.address().port });
});

if (process.argv.includes('--exit-with-stdin')) {
  process.stdin.on('end', () => process.exit(0)).resume();
}
