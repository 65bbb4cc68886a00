// The HTTP server of mail: health, metrics, and a place for your own routes.
import http from "node:http";
import { pathToFileURL } from "node:url";

const requests = new Map();

export function answer(path) {
  requests.set(path, (requests.get(path) ?? 0) + 1);
  if (path === "/healthz") return [200, "ok\n"];
  if (path === "/metrics") {
    const lines = [...requests].sort().map(([key, value]) => `mail_requests_total{path="${key}"} ${value}`);
    return [200, lines.join("\n") + "\n"];
  }
  return [404, "not found\n"];
}

export const server = http.createServer((request, response) => {
  const [status, text] = answer(request.url);
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8" });
  response.end(text);
});

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  server.listen(Number(process.env.PORT ?? 3000));
}
