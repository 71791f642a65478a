// What the lanes with a browser share: checks, the browser, and `kubectl bind` beside it. The scripts copy it beside the
// program that imports it, where playwright-core is installed.
// in: CHROMIUM (the browser)

import { spawn } from "node:child_process";
import { chromium } from "playwright-core";

// Says that something holds; throws with what was expected and seen otherwise.
export function check(what, ok, seen) {
  if (!ok) throw new Error(`FAILED: ${what}; seen: ${seen}`);
  console.log(`ok: ${what}`);
}

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

// Starts `kubectl bind URL --skip-browser`, typed as `command`; the URL that it prints, a promise of its end, and a way to
// give up.
export function bind(command, url, env = process.env) {
  const [program, ...words] = command;
  const child = spawn(program, [...words, url, "--skip-browser", "--accept-claims"], { env, stdio: ["ignore", "pipe", "pipe"] });
  process.on("exit", () => child.kill());
  let out = "";
  const ended = new Promise((resolve) => child.on("close", (code) => resolve({ code, out })));
  const address = new Promise((resolve, reject) => {
    const look = (chunk) => {
      out += chunk;
      const found = out.match(/https?:\/\/\S*redirect_url=\S+/);
      if (found) resolve(found[0]);
    };
    child.stdout.on("data", look);
    child.stderr.on("data", look);
    ended.then(({ code }) => reject(new Error(`kubectl bind ended with ${code} before it printed a URL:\n${out}`)));
  });
  return { address, ended, giveUp: () => child.kill() };
}
