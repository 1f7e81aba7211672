import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { run, Runner, RunState, setTracingDisabled, tool, type AgentInputItem } from '@openai/agents';
import {
  compaction, dir, file, filesystem, Manifest, memory, SandboxAgent, shell, skills, StaticCompactionPolicy,
} from '@openai/agents/sandbox';
import { localDirLazySkillSource } from '@openai/agents/sandbox/local';
import { assistantMessage, functionCall, modelResponder, ScriptedModel } from '@openai/agents/testing';
import { z } from 'zod';
import { World } from './world.ts';

setTracingDisabled(true);

const manifest = () => new Manifest({
  entries: { 'README.md': file({ content: '# Demo\nA tiny project.\n' }), sub: dir({ children: { 'in.txt': file({ content: 'inside\n' }) } }) },
  environment: { GREETING: 'hello' },
});

let calls = 0;
const call = (name: string, args: Record<string, unknown>) => [functionCall(name, args, { callId: `call-${++calls}` })];
const done = (text = 'done') => [assistantMessage(text)];

/** What the tools answered, in order, as the model was sent it. */
function answers(model: ScriptedModel): string[] {
  const input = model.lastCall?.request.input;
  assert.ok(Array.isArray(input));
  return (input as AgentInputItem[])
    .filter((item) => item.type === 'function_call_result')
    .map((item) => {
      const out = (item as { output: unknown }).output;
      return typeof out === 'string' ? out : JSON.stringify(out);
    });
}

for (const transport of ['stdio', 'http'] as const) {
  describe(`the SDK's runner over ${transport}`, () => {
    const world = new World(transport);
    after(() => world.close());

    test('shell: commands, a session, an interrupt', async () => {
      let id = 0;
      const model = new ScriptedModel([
        call('exec_command', { cmd: 'cat README.md; echo $GREETING; pwd' }),
        call('exec_command', { cmd: 'cat sub/in.txt', workdir: '/workspace' }),
        call('exec_command', { cmd: 'echo up; read word; echo "got $word"; sleep 100', yield_time_ms: 500, tty: true }),
        modelResponder((recorded) => {
          const all = JSON.stringify(recorded.request.input);
          id = Number(/session ID (\d+)/.exec(all)?.[1]);
          return call('write_stdin', { session_id: id, chars: 'word\n', yield_time_ms: 500 });
        }),
        modelResponder(() => call('write_stdin', { session_id: id, chars: '\u0003', yield_time_ms: 3000 })),
        done('ok'),
      ]);
      const agent = new SandboxAgent({ name: 'a', model, defaultManifest: manifest(), capabilities: [shell()] });
      const result = await run(agent, 'go', { sandbox: { client: await world.client() } });
      assert.equal(result.finalOutput, 'ok');
      const [first, second, third, fourth, fifth] = answers(model);
      assert.match(first!, /Process exited with code 0[^]*# Demo[^]*hello[^]*\/workspace/);
      assert.match(second!, /inside/);
      assert.match(third!, /Process running with session ID \d+/);
      assert.match(fourth!, /got word/);
      assert.match(fifth!, /Process exited with code 130/);
      model.assertComplete();
    });

    test('filesystem: apply_patch and view_image', async () => {
      const client = await world.client();
      const session = await client.create(manifest());
      const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');
      await session.materializeEntry({ path: 'p.png', entry: file({ content: new Uint8Array(png) }) });
      let n = 0;
      const patch = (operation: Record<string, unknown>) => [{
        type: 'apply_patch_call' as const, callId: `patch-${++n}`, status: 'completed' as const, operation: operation as never,
      }];
      const model = new ScriptedModel([
        patch({ type: 'create_file', path: 'new.py', diff: '+print("new")\n' }),
        patch({ type: 'update_file', path: 'README.md', diff: '@@\n # Demo\n-A tiny project.\n+A changed project.\n' }),
        patch({ type: 'update_file', path: 'README.md', diff: '@@\n-not there\n+x\n' }),
        patch({ type: 'delete_file', path: '../../etc/passwd' }),
        call('view_image', { path: 'p.png' }),
        call('view_image', { path: 'README.md' }),
        call('view_image', { path: 'none.png' }),
        call('exec_command', { cmd: 'python3 new.py; cat README.md' }),
        done(),
      ]);
      const agent = new SandboxAgent({ name: 'a', model, capabilities: [shell(), filesystem()] });
      try {
        await run(agent, 'go', { sandbox: { session } });
        const input = model.lastCall!.request.input as AgentInputItem[];
        const patches = input.filter((item) => item.type === 'apply_patch_call_output') as { status: string; output?: string }[];
        assert.deepEqual(patches.map((p) => p.status), ['completed', 'completed', 'failed', 'failed'], JSON.stringify(patches));
        const [image, text, none, shown] = answers(model);
        assert.match(image!, /image\/png|data:image/);
        assert.match(text!, /is not a supported image file/);
        assert.match(none!, /was not found/);
        assert.match(shown!, /new[^]*A changed project/);
      } finally {
        await session.close();
      }
    });

    test('skills, eager and lazy', async () => {
      const source = mkdtempSync(join(process.cwd(), '.skills-'));
      mkdirSync(join(source, 'greet'));
      writeFileSync(join(source, 'greet', 'SKILL.md'), '---\nname: greet\ndescription: says hello\n---\nRun run.sh\n');
      writeFileSync(join(source, 'greet', 'run.sh'), '#!/bin/sh\necho from the skill\n', { mode: 0o755 });
      try {
        for (const capability of [
          skills({ skills: [{ name: 'greet', description: 'says hello', content: 'Run run.sh', scripts: { 'run.sh': file({ content: '#!/bin/sh\necho from the skill\n' }) } }] }),
          skills({ lazyFrom: localDirLazySkillSource({ src: source }) }),
        ]) {
          const model = new ScriptedModel([
            modelResponder((recorded) => {
              const load = (recorded.request.tools as { name: string }[]).find((t) => t.name === 'load_skill');
              return load === undefined ? call('exec_command', { cmd: 'true' }) : call('load_skill', { skill_name: 'greet' });
            }),
            call('exec_command', { cmd: 'sh "$(find . -name run.sh | head -1)"; find . -name SKILL.md' }),
            done(),
          ]);
          const agent = new SandboxAgent({ name: 'a', model, defaultManifest: manifest(), capabilities: [shell(), capability] });
          await run(agent, 'go', { sandbox: { client: await world.client() } });
          assert.match(answers(model)[1]!, /from the skill[^]*greet\/SKILL\.md/, answers(model).join('\n'));
        }
      } finally {
        rmSync(source, { recursive: true });
      }
    });

    test('memory is read from the workspace, and written there', async () => {
      const client = await world.client();
      const session = await client.create(manifest());
      const model = new ScriptedModel([call('exec_command', { cmd: 'ls' }), done('remember: blue')]);
      const writer = new ScriptedModel(Array.from({ length: 6 }, () => done(JSON.stringify({
        rollout_summary: 'the colour is blue', rollout_slug: 'colour', raw_memory: 'colour: blue',
      }))));
      try {
        await session.materializeEntry({ path: 'memories/memory_summary.md', entry: file({ content: 'The user likes tea.' }) });
        const agent = new SandboxAgent({
          name: 'a', model,
          capabilities: [shell(), filesystem(), memory({ generate: { phaseOneModel: writer, phaseTwoModel: writer } })],
        });
        await run(agent, 'which colour?', { sandbox: { session } });
        assert.match(String(model.firstCall!.request.systemInstructions), /likes tea/);
        await session.runPreStopHooks();
        const { stdout } = await session.exec({ cmd: 'find memories sessions -type f | sort; cat sessions/* | head -c 4000', login: false });
        assert.match(stdout, /memories\/raw_memories|memories\/MEMORY\.md/, stdout);
        assert.match(stdout, /which colour/, stdout);
      } finally {
        await session.close();
      }
    });

    test('compaction leaves the sandbox as it is', async () => {
      const model = new ScriptedModel([call('exec_command', { cmd: 'echo kept > f' }), call('exec_command', { cmd: 'cat f' }), done()]);
      const agent = new SandboxAgent({
        name: 'a', model, defaultManifest: manifest(),
        capabilities: [shell(), compaction({ policy: new (class extends StaticCompactionPolicy {})(1000) })],
      });
      await run(agent, 'go', { sandbox: { client: await world.client() } });
      assert.match(answers(model)[1]!, /kept/);
    });

    test('a working directory for one run', async () => {
      const model = new ScriptedModel([call('exec_command', { cmd: 'pwd; cat in.txt' }), done()]);
      const agent = new SandboxAgent({ name: 'a', model, defaultManifest: manifest(), capabilities: [shell()] });
      await run(agent, 'go', { sandbox: { client: await world.client(), cwd: 'sub' } });
      assert.match(answers(model)[0]!, /\/workspace\/sub[^]*inside/);
      const missing = new SandboxAgent({ name: 'a', model: new ScriptedModel([]), defaultManifest: manifest(), capabilities: [shell()] });
      await assert.rejects(run(missing, 'go', { sandbox: { client: await world.client(), cwd: 'none' } }), /does not exist/);
    });

    test('an interrupted run goes on with its files, from its state as text', async () => {
      const ask = tool({ name: 'ask', description: '', parameters: z.object({}), needsApproval: true, execute: async () => 'yes' });
      const model = new ScriptedModel([call('exec_command', { cmd: 'echo before > f' }), call('ask', {}), call('exec_command', { cmd: 'cat f; echo $GREETING' }), done()]);
      const agent = new SandboxAgent({ name: 'a', model, defaultManifest: manifest(), capabilities: [shell()], tools: [ask] });
      const runner = new Runner({ tracingDisabled: true });
      const first = await runner.run(agent, 'go', { sandbox: { client: await world.client() } });
      assert.equal(first.interruptions.length, 1);
      const state = await RunState.fromString(agent, first.state.toString());
      for (const interruption of state.getInterruptions()) {
        state.approve(interruption);
      }
      await runner.run(agent, state, { sandbox: { client: await world.client() } });
      assert.match(answers(model).at(-1)!, /before[^]*hello/, answers(model).join('\n'));
    });
  });
}
