// Renders cases with the real Nunjucks: one JSON object per line in, one per line out.
//   in:  {template | entry, templates, context, options}     out: {text} or {error}
// Nunjucks 3.2.4 is found from the working directory (`npm install nunjucks@3.2.4` in a folder outside this tree).
import path from 'node:path';
import readline from 'node:readline';
import { createRequire } from 'node:module';

const nunjucks = createRequire(path.join(process.cwd(), 'package.json'))('nunjucks');
process.env.TZ = 'UTC';

class Memory extends nunjucks.Loader {
  constructor(files) { super(); this.files = files; }
  getSource(name) {
    return Object.prototype.hasOwnProperty.call(this.files, name) ? { src: this.files[name], path: name, noCache: false } : null;
  }
  resolve(from, to) { return path.posix.normalize(path.posix.join(path.posix.dirname(from), to)); }
}

function render(request) {
  return new Promise((resolve) => {
    const { jinjaCompat, ...options } = request.options || {};
    const uninstall = jinjaCompat ? nunjucks.installJinjaCompat() : null;
    let answered = false;
    const done = (error, text) => {
      if (answered) return;
      answered = true;
      if (uninstall) uninstall();
      if (error) resolve({ error: String(error.message).slice(-2000) });
      else if (typeof text !== 'string') resolve({ error: 'no text' });
      else resolve({ text });
    };
    try {
      const env = new nunjucks.Environment(new Memory(request.templates || {}), options);
      if (typeof request.template === 'string') env.renderString(request.template, request.context || {}, done);
      else env.render(request.entry || 'main.njk', request.context || {}, done);
    } catch (error) {
      done(error);
    }
    // Some failures inside callbacks are reported by nobody.
    setImmediate(() => done(new Error('no answer')));
  });
}

process.on('uncaughtException', () => {});
for await (const line of readline.createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await render(JSON.parse(line))) + '\n');
}
