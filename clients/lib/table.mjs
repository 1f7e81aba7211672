// The table of docs/clients.md, between its markers.
import fs from 'node:fs';
import { cases } from './cases.mjs';

const begin = '<!-- clients: written by clients/run --write -->';
const end = '<!-- /clients -->';
const transports = { stdio: 'stdio', http: 'HTTP', sse: 'SSE' };

// renderTable takes rows {client, version, transport, cells: {case: {cell, rule}}}.
export function renderTable(rows) {
  const names = Object.keys(cases);
  const notes = new Map();
  const number = rule => {
    const key = rule.reason;
    if (!notes.has(key)) notes.set(key, notes.size + 1);
    return notes.get(key);
  };
  const lines = [
    `| Client | Transport | ${names.join(' | ')} |`,
    `|---|---|${names.map(() => '---').join('|')}|`,
    ...rows.map(r => `| ${r.client} ${r.version} | ${transports[r.transport]} | ${names.map(n => {
      const { cell, rule } = r.cells[n];
      return rule ? `${cell} <sup>${number(rule)}</sup>` : cell;
    }).join(' | ')} |`),
  ];
  return `${lines.join('\n')}\n\n${[...notes].map(([reason, n]) => `${n}. ${reason}`).join('\n')}\n`;
}

// compareTable answers a complaint when the document has another table; with
// write it puts this one in.
export function compareTable(file, table, write) {
  const doc = fs.readFileSync(file, 'utf8');
  const from = doc.indexOf(begin);
  const to = doc.indexOf(end);
  if (from < 0 || to < from) return `${file}: the markers ${begin} and ${end} are missing`;
  const now = `${doc.slice(0, from)}${begin}\n${table}${doc.slice(to)}`;
  if (now === doc) return;
  if (write) fs.writeFileSync(file, now);
  else return 'docs/clients.md: the table is out of date; run clients/run --write';
}
