// Golden files: what an agent's model reads, with what changes from run to run
// taken out.
import fs from 'node:fs';
import path from 'node:path';
import { script } from './script.mjs';

const volatile = [
  [/Wall time: [\d.]+ (ms|seconds|s)(?: \(command: [\d.]+\))?/g, 'Wall time: N $1'],
  [/killed after \d+ ms/g, 'killed after N ms'],
  [/"wall_time_seconds":[\d.e-]+(?:,"command_seconds":[\d.e-]+)?/g, '"wall_time_seconds":N'],
  [/(session ID |"session_id":)\d+/g, '$1N'],
  [/out_[0-9a-f]+/g, 'out_N'],
  [/[A-Za-z0-9+/]{60,}={0,2}/g, base64 => `[${Buffer.from(base64, 'base64').length} bytes in base64]`],
  // Where a long output is cut depends by a few tokens on the id in the mark.
  [/\d+ cut; the rest/g, 'N cut; the rest'],
  [/\(\d+ lines that count up\)\n\d+\n\[\.\.\. \d+ tokens in \d+ lines (cut: [^\n]*)\n\d+\n\(\d+ lines/g, '(lines that count up)\nN\n[... N tokens in N lines $1\nN\n(lines'],
  [/\d+\n\n\.\.\.\d+ lines truncated/g, 'N\n\n...N lines truncated'],
  [/tool-output\/tool_\w+/g, 'tool-output/tool_N'],
  [/\r\n/g, '\\r\\n'],
];

function plain(part) {
  if (typeof part === 'string') return part;
  if (Array.isArray(part)) return part.map(plain).join('\n');
  if (typeof part.text === 'string' && Object.keys(part).every(k => k === 'text' || k === 'type')) return part.text;
  if (typeof part.output === 'string' && Object.keys(part).length === 1) return part.output;
  return JSON.stringify(part);
}

// folded replaces lines that count up by one by the first and the last of them.
function folded(text) {
  const lines = text.split('\n');
  const out = [];
  for (let i = 0; i < lines.length;) {
    let j = i;
    while (/^\d+$/.test(lines[j]) && Number(lines[j + 1]) === Number(lines[j]) + 1) j++;
    if (j - i < 5) out.push(lines[i++]);
    else {
      out.push(lines[i], `(${j - i - 1} lines that count up)`, lines[j]);
      i = j + 1;
    }
  }
  return out.join('\n');
}

// reading is the text of a golden file.
export function reading(model, dir) {
  return script.map((step, i) => {
    let text = folded(plain(model.results[i] ?? 'nothing'));
    for (const [pattern, by] of volatile) text = text.replace(pattern, by);
    return `=== ${step.name}\n${text.replaceAll(dir, 'DIR')}\n`;
  }).join('');
}

// compareGolden answers a complaint, or nothing. With write it makes the file.
export function compareGolden(agent, transport, text, write) {
  const file = path.join(process.env.CLIENTS_DIR, 'golden', `${agent.name.toLowerCase().replace(/\W+/g, '-')}.txt`);
  if (write && transport === 'stdio') fs.writeFileSync(file, text);
  const want = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  if (want === text) return;
  const [a, b] = [want.split('\n'), text.split('\n')];
  const at = a.findIndex((line, i) => line !== b[i]);
  return `${agent.name}, ${transport}: the model reads something else than ${path.basename(file)}, line ${at + 1}:\n  golden: ${(a[at] ?? 'the end').slice(0, 300)}\n  now:    ${(b[at] ?? 'the end').slice(0, 300)}`;
}
