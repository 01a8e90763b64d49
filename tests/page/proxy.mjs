// Stands between the page and the service, and cuts what goes through.
import { connect, createServer } from "node:net";

export async function proxy(t, service) {
  const sockets = new Set();
  let refusing = false;
  let loses = () => false;
  const server = createServer((client) => {
    if (refusing) return client.destroy();
    const upstream = connect(new URL(service.url).port, "127.0.0.1");
    for (const [one, other] of [[client, upstream], [upstream, client]]) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
    }
    let asked = "";
    client.on("data", (piece) => {
      asked = piece.toString("latin1");
      upstream.write(piece);
    });
    upstream.on("data", (piece) => {
      // The service has answered, and nobody hears it.
      if (loses(asked)) client.destroy();
      else client.write(piece);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  t.after(() => {
    cut();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut,
    refuse(on) {
      refusing = on;
      if (on) cut();
    },
    // Loses the answers to requests that begin with this, as many times.
    lose(start, times) {
      let left = times;
      loses = (asked) => asked.startsWith(start) && left-- > 0;
    },
  };
}
