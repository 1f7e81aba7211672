package main

// The versions of npm's tools are fixed, so that two reports compare.
const (
	pnpmVersion       = "9.15.9"
	yarnVersion       = "1.22.22"
	berryVersion      = "4.9.2"
	typescriptVersion = "5.9.3"
	esbuildVersion    = "0.25.10"
	playwrightVersion = "1.56.1"
)

// project is a package.json with the mirror's packages, and a test.
func project(more string) map[string]string {
	return map[string]string{
		".npmrc":       "registry={{mirror}}/npm/\n",
		"package.json": "{\"name\":\"app\",\"version\":\"1.0.0\",\"private\":true" + more + ",\"scripts\":{\"test\":\"node app.js\",\"greet\":\"tiny-greet\"},\"dependencies\":{\"tiny-greet\":\"^1.0.0\"}}\n",
		"app.js":       "console.log('app:', require('tiny-greet')())\n",
	}
}

func with(files map[string]string, name, text string) map[string]string {
	files[name] = text
	return files
}

func nodeSteps() []step {
	const want = "app: hello from the mirror"
	npm := []string{"node", "npm", "npx"}
	return []step{
		{name: "node", what: "`node --test` with a server and `fetch`", needs: []string{"node"},
			files: map[string]string{"app.test.mjs": `import test from 'node:test'
import assert from 'node:assert'
import { createServer } from 'node:http'
import { Worker } from 'node:worker_threads'

test('fetches', async () => {
  const server = createServer((request, reply) => reply.end('fine')).listen(0, 'localhost')
  await new Promise(done => server.once('listening', done))
  const reply = await fetch('http://localhost:' + server.address().port)
  assert.equal(await reply.text(), 'fine')
  server.close()
  server.closeAllConnections()
})
test('works in a thread', async () => {
  const worker = new Worker('require("worker_threads").parentPort.postMessage(1)', { eval: true })
  assert.equal(await new Promise(done => worker.once('message', done)), 1)
})
`},
			cmd: "node --test", want: "pass 2"},
		{name: "npm", what: "`npm install` with an install script, `npm test`", needs: npm,
			files: project(""), cmd: "npm install && npm run greet && npm test && cat node_modules/tiny-greet/installed", want: want},
		{name: "npm ci", what: "from a lock file, removing `node_modules`", needs: npm,
			files: project(""), cmd: "npm install --package-lock-only && npm ci && npm test", want: want},
		{name: "pnpm", what: "`pnpm install` and `pnpm test`, pnpm from npx", needs: npm, packages: []string{"pnpm@" + pnpmVersion},
			files: project(""), cmd: "npx --yes pnpm@" + pnpmVersion + " install && npx --yes pnpm@" + pnpmVersion + " test", want: want},
		{name: "yarn 1", what: "`yarn install` and `yarn test`, Yarn from npx", needs: npm, packages: []string{"yarn@" + yarnVersion},
			files: with(project(""), ".yarnrc", "registry \"{{mirror}}/npm/\"\n"),
			cmd:   "npx --yes yarn@" + yarnVersion + " install && npx --yes yarn@" + yarnVersion + " -s test", want: want},
		{name: "yarn 4", what: "the same with Plug'n'Play", needs: npm, packages: []string{"@yarnpkg/cli-dist@" + berryVersion},
			files: with(with(project(""), ".yarnrc.yml", "npmRegistryServer: \"{{mirror}}/npm\"\nunsafeHttpWhitelist: [\"127.0.0.1\"]\nenableTelemetry: false\nenableImmutableInstalls: false\n"), "yarn.lock", ""),
			cmd:   "y() { npx --yes --package @yarnpkg/cli-dist@" + berryVersion + " yarn \"$@\"; }; y install && y test", want: want},
		{name: "corepack", what: "pnpm as `packageManager` names it", needs: []string{"node", "corepack"}, packages: []string{"pnpm@" + pnpmVersion},
			files: project(",\"packageManager\":\"pnpm@" + pnpmVersion + "\""),
			cmd:   "export COREPACK_NPM_REGISTRY={{mirror}}/npm COREPACK_INTEGRITY_KEYS=0 COREPACK_ENABLE_DOWNLOAD_PROMPT=0\ncorepack pnpm install && corepack pnpm test", want: want},
		{name: "typescript", what: "`npm install typescript`, `npx tsc`", needs: npm, packages: []string{"typescript@" + typescriptVersion},
			files: map[string]string{
				".npmrc":       "registry={{mirror}}/npm/\n",
				"package.json": "{\"private\":true,\"devDependencies\":{\"typescript\":\"" + typescriptVersion + "\"}}\n",
				"app.ts":       "const n: number = 42\nconsole.log(`typed ${n}`)\n",
			},
			cmd: "npm install && npx tsc --target es2022 app.ts && node app.js", want: "typed 42"},
		{name: "esbuild", what: "a native program that an install script checks", needs: npm,
			packages: []string{"@esbuild/linux-x64@" + esbuildVersion, "esbuild@" + esbuildVersion},
			files: with(with(project(""), "package.json", "{\"private\":true,\"dependencies\":{\"tiny-greet\":\"1\",\"esbuild\":\""+esbuildVersion+"\"}}\n"),
				"build.mjs", "import * as esbuild from 'esbuild'\nawait esbuild.build({ entryPoints: ['app.js'], bundle: true, platform: 'node', outfile: 'out.cjs' })\n"),
			cmd: "npm install && node build.mjs && node out.cjs", want: want},
	}
}
