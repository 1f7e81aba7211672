// A model endpoint on loopback. It thinks nothing: it replays a list of tool
// calls, one per request, and records what it is given back. It speaks OpenAI's
// Responses and chat completions and Gemini's generateContent, streamed.
import http from 'node:http';

// Turn is one step of a script: {tool, args}, where args may be a function of
// the text of the last result.
//
// Model.requests holds every body; Model.results what the agent gave back for
// each call, as the provider's own parts.
export class Model {
  constructor(script) {
    this.script = script;
    this.requests = [];
    this.results = [];
    this.tools = new Set();
    this.instructions = '';
    this.sent = 0;
  }

  async start() {
    this.server = http.createServer((q, r) => this.serve(q, r).catch(e => { r.statusCode = 500; r.end(String(e)); this.failure = e; }));
    await new Promise(done => this.server.listen(0, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  // step says what to answer: the next call, or null when the script is over.
  // An agent sends the whole conversation each time, so the last result is new
  // exactly when there are as many results as calls were sent.
  step(results) {
    this.results = results;
    if (results.length < this.sent) return null;
    const turn = this.script[this.sent];
    if (!turn) return null;
    this.sent++;
    const args = typeof turn.args === 'function' ? turn.args(textOf(results.at(-1))) : turn.args;
    return { id: `call_${this.sent}`, tool: turn.tool, args };
  }

  async serve(q, r) {
    let body = '';
    for await (const part of q) body += part;
    const path = new URL(q.url, 'http://model').pathname;
    const request = body ? JSON.parse(body) : {};
    this.requests.push({ path, request });
    const dialect = dialects.find(d => d.path.test(path));
    if (!dialect) {
      r.statusCode = 404;
      return r.end('{"error":{"message":"no such endpoint"}}');
    }
    dialect.answer(this, request, r, path);
  }
}

// textOf is the text of a recorded result, whatever the provider's parts are.
export function textOf(result) {
  if (result === undefined) return '';
  if (typeof result === 'string') return result;
  if (Array.isArray(result)) return result.map(textOf).join('\n');
  return result.text ?? textOf(result.output ?? result.content ?? result.response ?? '');
}

function sse(r, events) {
  r.writeHead(200, { 'Content-Type': 'text/event-stream' });
  for (const [event, data] of events) r.write(`${event ? `event: ${event}\n` : ''}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`);
  r.end();
}

const responses = {
  path: /\/responses$/,
  answer(model, request, r) {
    model.instructions = request.instructions ?? '';
    const named = {};
    for (const t of request.tools ?? []) {
      for (const f of t.type === 'namespace' ? t.tools : [t]) {
        if (!f.name) continue;
        const namespace = t.type === 'namespace' ? t.name : undefined;
        named[`${namespace ?? ''} ${f.name}`] = { name: f.name, namespace };
        model.tools.add(namespace ? `${namespace}/${f.name}` : f.name);
      }
      if (t.type === 'namespace' && t.name.includes('sandbox')) model.instructions = t.description;
    }
    const results = (request.input ?? []).filter(i => i.type === 'function_call_output').map(i => i.output);
    const call = request.tools?.length ? model.step(results) : null;
    let item = { type: 'message', id: 'msg', role: 'assistant', status: 'completed', content: [{ type: 'output_text', text: 'done', annotations: [] }] };
    if (call) {
      const found = Object.values(named).find(f => (f.namespace ?? f.name).includes('sandbox') && (f.name === call.tool || f.name.endsWith(`__${call.tool}`)));
      if (!found) throw new Error(`${call.tool} is not among the tools: ${Object.keys(named)}`);
      item = { type: 'function_call', id: `fc_${call.id}`, call_id: call.id, status: 'completed', ...found, arguments: JSON.stringify(call.args) };
    }
    const response = { id: `resp_${model.sent}`, object: 'response', status: 'completed', output: [item], usage: { input_tokens: 1, output_tokens: 1, total_tokens: 2, input_tokens_details: { cached_tokens: 0 }, output_tokens_details: { reasoning_tokens: 0 } } };
    sse(r, [
      ['response.created', { type: 'response.created', response: { ...response, status: 'in_progress', output: [] } }],
      ['response.output_item.added', { type: 'response.output_item.added', output_index: 0, item }],
      ['response.output_item.done', { type: 'response.output_item.done', output_index: 0, item }],
      ['response.completed', { type: 'response.completed', response }],
    ]);
  },
};

const chat = {
  path: /\/chat\/completions$/,
  answer(model, request, r) {
    const names = (request.tools ?? []).map(t => t.function.name);
    for (const n of names) model.tools.add(n);
    const messages = request.messages ?? [];
    let call = null;
    if (names.length) {
      model.instructions = messages.filter(m => m.role === 'system').map(m => textOf(m.content)).join('\n');
      const results = [];
      for (const m of messages) {
        if (m.role === 'tool') results.push([m.content]);
        // A picture cannot be in a tool's message, so it comes in the user's next one.
        else if (m.role === 'user' && results.length && Array.isArray(m.content)) results.at(-1).push(...m.content);
      }
      call = model.step(results);
    }
    const delta = call
      ? { role: 'assistant', tool_calls: [{ index: 0, id: call.id, type: 'function', function: { name: names.find(n => n.startsWith('sandbox') && n.endsWith(call.tool)), arguments: JSON.stringify(call.args) } }] }
      : { role: 'assistant', content: 'done' };
    const chunk = (delta, finish_reason) => ({ id: 'chat', object: 'chat.completion.chunk', created: 0, model: request.model, choices: [{ index: 0, delta, finish_reason }] });
    if (!request.stream) {
      r.setHeader('Content-Type', 'application/json');
      return r.end(JSON.stringify({ id: 'chat', object: 'chat.completion', created: 0, model: request.model, choices: [{ index: 0, message: delta, finish_reason: call ? 'tool_calls' : 'stop' }], usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 } }));
    }
    sse(r, [['', chunk(delta, null)], ['', { ...chunk({}, call ? 'tool_calls' : 'stop'), usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 } }], ['', '[DONE]']]);
  },
};

const gemini = {
  path: /:(streamGenerateContent|generateContent|countTokens)$/,
  answer(model, request, r, path) {
    if (path.endsWith(':countTokens')) {
      r.setHeader('Content-Type', 'application/json');
      return r.end('{"totalTokens":1}');
    }
    const declared = (request.tools ?? []).flatMap(t => t.functionDeclarations ?? []);
    const names = declared.map(f => f.name);
    for (const n of names) model.tools.add(n);
    let call = null;
    if (names.length) {
      model.instructions = textOf(request.systemInstruction?.parts ?? '');
      const results = [];
      for (const content of request.contents ?? []) {
        for (const part of content.parts ?? []) {
          if (part.functionResponse) results.push([part.functionResponse.response, ...(part.functionResponse.parts ?? [])]);
          else if (part.inlineData && results.length) results.at(-1).push(part);
        }
      }
      call = model.step(results);
    }
    const wanted = call && names.find(n => n.includes('sandbox') && n.endsWith(call.tool));
    if (call && !wanted) throw new Error(`${call.tool} is not among the tools: ${names}`);
    // Gemini CLI adds an argument of its own to every tool, and models set it.
    const schema = JSON.stringify(declared.find(f => f.name === wanted) ?? {});
    const args = schema.includes('"wait_for_previous"') ? { ...call.args, wait_for_previous: true } : call?.args;
    const part = call ? { functionCall: { id: call.id, name: wanted, args } } : { text: request.generationConfig?.responseMimeType === 'application/json' ? '{}' : 'done' };
    const answer = { candidates: [{ index: 0, content: { role: 'model', parts: [part] }, finishReason: 'STOP' }], usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 1, totalTokenCount: 2 }, modelVersion: 'replay' };
    if (path.endsWith(':generateContent')) {
      r.setHeader('Content-Type', 'application/json');
      return r.end(JSON.stringify(answer));
    }
    sse(r, [['', answer]]);
  },
};

const dialects = [responses, chat, gemini];
