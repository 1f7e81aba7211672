// What is known of clients: cases that they have no way for, and cases that
// fail by their own fault, each with the reason. Everything else must pass.
import fs from 'node:fs';
import path from 'node:path';

const file = path.join(process.env.CLIENTS_DIR, 'expectations.json');

// Expectations reads expectations.json: a list of {client, transports, cases,
// fails or skip, reason}. transports is for all of the client's when absent.
// fails is a pattern of the failure: one that fails otherwise is not excused.
export class Expectations {
  constructor() {
    this.rules = JSON.parse(fs.readFileSync(file, 'utf8'));
    for (const r of this.rules) {
      if (!r.client || !r.cases?.length || !r.reason || !r.skip === !r.fails) throw new Error(`expectations.json: incomplete: ${JSON.stringify(r)}`);
      r.used = false;
    }
  }

  find(client, transport, name) {
    return this.rules.find(r => r.client === client && r.cases.includes(name) && (!r.transports || r.transports.includes(transport)));
  }

  skips(client, transport, name) {
    const rule = this.find(client, transport, name);
    if (rule) rule.used = true;
    return rule?.skip === true;
  }

  // verdict answers {cell, rule} for the table, or {complaint}.
  verdict(client, transport, name, result) {
    const rule = this.find(client, transport, name);
    const at = `${client}, ${transport}, ${name}`;
    if (rule?.skip) return { cell: '–', rule };
    if (!result) return { complaint: `${at}: not run` };
    if (result.ok && rule) return { complaint: `${at}: passes now; take it out of expectations.json` };
    if (result.ok) return { cell: 'yes' };
    if (rule && new RegExp(rule.fails).test(result.error)) return { cell: 'no', rule };
    return { complaint: `${at}: ${result.error}` };
  }

  unused() {
    return this.rules.filter(r => !r.used).map(r => `expectations.json: no client runs ${r.client} ${r.transports ?? ''} ${r.cases}`);
  }
}
