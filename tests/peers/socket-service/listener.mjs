// A browser for tests: joins one execution's room and prints what it is sent.
//
//   node listener.mjs URL EXECUTION_ID [TOKEN] [--exit-with-stdin]
//
// Prints one JSON object a line: {"event":"joined"} whenever it has (again) joined,
// {"event":"execution-status",…} and {"event":"execution-started",…} as received, {"event":"disconnected"},
// {"event":"refused","message"}.
import { io } from 'socket.io-client';

const [url, executionId, token = 'any'] = process.argv.slice(2).filter((word) => !word.startsWith('--'));
if (!url || !executionId) {
  process.stderr.write('usage: node listener.mjs URL EXECUTION_ID [TOKEN]\n');
  process.exit(2);
}
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const socket = io(url, { auth: { token }, reconnectionDelay: 50, reconnectionDelayMax: 200 });
socket.on('connect', () => socket.emit('join-execution', executionId, () => print({ event: 'joined' })));
socket.on('disconnect', () => print({ event: 'disconnected' }));
socket.on('connect_error', (error) => {
  // Only the service's own refusal is one; that it is away is what reconnecting is for.
  if (!socket.active) print({ event: 'refused', message: error.message });
});
for (const event of ['execution-status', 'execution-started']) {
  socket.on(event, (data) => print({ event, ...data }));
}

if (process.argv.includes('--exit-with-stdin')) {
  process.stdin.on('end', () => process.exit(0)).resume();
}
