// A receiver of webhooks that verifies with the official library of Standard Webhooks, as its users do.
//
//   node receiver.mjs [--exit-with-stdin]
//
// PORT (default 0: any free one), SECRET (`whsec_…`).
// Prints one JSON object a line: {"event":"listening","port"}; {"event":"message","id","payload"} for a message that
// verifies, {"event":"refused","problem"} for one that does not.
import { createServer } from 'node:http';
import { Webhook } from 'standardwebhooks';

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const webhook = new Webhook(process.env.SECRET);

const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    try {
      const payload = webhook.verify(Buffer.concat(chunks).toString(), request.headers);
      print({ event: 'message', id: request.headers['webhook-id'], payload });
      response.writeHead(204).end();
    } catch (error) {
      print({ event: 'refused', problem: error.message });
      response.writeHead(401).end();
    }
  });
});
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => print({ event: 'listening', port: server.address().port }));

if (process.argv.includes('--exit-with-stdin')) {
  process.stdin.on('end', () => process.exit(0)).resume();
}
