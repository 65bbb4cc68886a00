// The Nunjucks side of bench_render.py: {workload, mode, rounds} in, {seconds, cpu} out, one JSON object per line.
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { createRequire } from 'node:module';

const started = process.hrtime.bigint();
const nunjucks = createRequire(path.join(process.cwd(), 'package.json'))('nunjucks');
const loads = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));

class Memory extends nunjucks.Loader {
  constructor(files) { super(); this.files = files; }
  getSource(name) { return { src: this.files[name], path: name, noCache: false }; }
}
const make = (load) => new nunjucks.Environment(new Memory(load.templates), { autoescape: false, trimBlocks: true, lstripBlocks: true });
const renderAll = (env, load) => load.files.map((file) => env.render(file, load.data)).join('');
const warm = {};

if (process.argv[3]) {
  const load = loads[process.argv[3]];
  const text = renderAll(make(load), load);
  process.stdout.write(JSON.stringify({ seconds: Number(process.hrtime.bigint() - started) / 1e9, length: text.length }) + '\n');
} else {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { workload, mode, rounds } = JSON.parse(line);
    const load = loads[workload];
    if (mode === 'text') { process.stdout.write(JSON.stringify({ text: renderAll(make(load), load) }) + '\n'); continue; }
    warm[workload] ??= make(load);
    const start = process.hrtime.bigint();
    const before = process.cpuUsage();
    for (let i = 0; i < rounds; i++) renderAll(mode === 'first' ? make(load) : warm[workload], load);
    const used = process.cpuUsage(before);
    process.stdout.write(JSON.stringify({ seconds: Number(process.hrtime.bigint() - start) / 1e9, cpu: (used.user + used.system) / 1e6 }) + '\n');
  }
}
