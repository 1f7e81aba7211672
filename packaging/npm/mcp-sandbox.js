#!/usr/bin/env node
// Starts the program of the package that npm installed for this system, in the
// place of this process where Node can do that, and otherwise as a child whose
// stdio, signals and exit code are those of this process.
"use strict";
const { spawn } = require("node:child_process");
const { constants } = require("node:os");

const { name, optionalDependencies } = require("../package.json");
const part = `${name}-${process.platform}-${process.arch}`;

function program() {
  try {
    return require.resolve(`${part}/bin/mcp-sandbox`);
  } catch {
    return undefined;
  }
}

function fail(why) {
  process.stderr.write(`mcp-sandbox: ${why}\n`);
  process.exit(125);
}

const file = program();
if (file === undefined) {
  if (optionalDependencies[part] === undefined) {
    const systems = Object.keys(optionalDependencies).map((p) => p.slice(name.length + 1));
    fail(`there is no program for ${process.platform}-${process.arch}, only for ${systems.join(", ")}; on Windows use it inside WSL 2`);
  }
  fail(`the package ${part} is not installed; install ${name} again without --omit=optional or --no-optional, on this system and not on another`);
}

const args = process.argv.slice(2);
if (process.execve) {
  try {
    process.execve(file, [file, ...args], process.env);
  } catch {
    // What the permissions of this Node refuse is told by the child's error.
  }
}

const child = spawn(file, args, { stdio: "inherit" });
// Each of these ends this process unless it is handled, and the child must hear of it.
const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2", "SIGWINCH", "SIGCONT"];
for (const signal of signals) process.on(signal, () => child.kill(signal));
child.on("error", (error) => fail(`${file} cannot be started (${error.message}); install ${name} again`));
child.on("exit", (code, signal) => {
  if (signal === null) process.exit(code);
  for (const s of signals) process.removeAllListeners(s);
  process.kill(process.pid, signal);
  // A signal that does not end this process is told as a shell tells it.
  process.exitCode = 128 + constants.signals[signal];
});
