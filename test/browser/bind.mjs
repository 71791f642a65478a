// Binds an API through the real pages in headless Chromium, once with and once without JavaScript.
// in: KUBECTL_BIND (the plugin), DEV_JSON (what `kube-bind dev` wrote), CHROMIUM, SHOTS (folder for screenshots)
// out: a line for each check; exit code 1 with what was expected and seen otherwise

import { mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { bind, check, launch } from "./kit.mjs";

const dev = JSON.parse(readFileSync(process.env.DEV_JSON, "utf8"));
const shots = process.env.SHOTS;
mkdirSync(shots, { recursive: true });

const env = { ...process.env, KUBECONFIG: dev.consumer.kubeconfig };
const browser = await launch();

async function walk(name, url, javaScriptEnabled) {
  const context = await browser.newContext({ javaScriptEnabled, viewport: { width: 1100, height: 800 } });
  const page = await context.newPage();
  const complaints = [];
  // What a content security policy forbids is told here. Missing icons and the refused password are not complaints.
  page.on("console", (message) => message.type() === "error" && !message.text().startsWith("Failed to load resource") && complaints.push(message.text()));
  const shot = (step) => page.screenshot({ path: path.join(shots, `${name}-${step}.png`), fullPage: true });
  const run = bind([process.env.KUBECTL_BIND], url, env);
  await page.goto(await run.address);
  check(`${name}: the login page asks for name and password`, (await page.locator("input[type=password]").count()) === 1, await page.title());
  await shot("1-login");
  await page.fill("input[name=username]", dev.login.username);
  await page.fill("input[name=password]", "wrong");
  await page.locator("button[type=submit], button:not([type])").first().click();
  check(`${name}: a wrong password is refused on the page`, (await page.locator("input[type=password]").count()) === 1, await page.content());
  await shot("2-wrong-password");
  await page.fill("input[name=username]", dev.login.username);
  await page.fill("input[name=password]", dev.login.password);
  await page.locator("button[type=submit], button:not([type])").first().click();
  const consent = await page.locator("body").innerText();
  check(`${name}: the consent page names what is read`, /email/i.test(consent) && /profile/i.test(consent), consent);
  await shot("3-consent");
  await page.locator("button[value=allow]").click();
  const text = await page.locator("body").innerText();
  check(`${name}: the bind page`, text.includes("Bind our Kubernetes API in no time"), text);
  check(`${name}: it shows a sample object`, text.includes("apiVersion:"), text);
  await shot("4-bind");
  await page.getByRole("button", { name: /^bind/i }).first().click();
  await page.waitForLoadState();
  await shot("5-done");
  check(`${name}: no credential in the address`, !page.url().includes("binding_response") && !page.url().includes("token"), page.url());
  const { code, out } = await run.ended;
  check(`${name}: kubectl bind ends well`, code === 0, `exit code ${code}\n${out}`);
  check(`${name}: nothing was refused by the browser`, complaints.length === 0, complaints.join("\n"));
  await context.close();
}

try {
  const [first, second] = dev.providers;
  await walk("with-javascript", first.url, true);
  await walk("without-javascript", second.url, false);
  console.log("pages: ok");
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await browser.close();
  process.exit();
}
