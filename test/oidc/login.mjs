// Binds an API through an issuer that no one here wrote, in headless Chromium: once with the consent refused, once with
// tokens that are not for us, once as it should be.
// in: PROGRAM (kube-bind), URL (what to bind), MISLED_URL (the same behind a client whose tokens are for another
//     audience), KUBECONFIG and HOME of the person, CHROMIUM, SHOTS (folder for screenshots)
// out: a line for each check; exit code 1 with what was expected and seen otherwise

import { mkdirSync } from "node:fs";
import path from "node:path";
import { bind, check, launch } from "./kit.mjs";

const shots = process.env.SHOTS;
mkdirSync(shots, { recursive: true });

const browser = await launch();

// Opens what the command prints and logs in on the issuer's own page; leaves the browser on its consent page.
async function logIn(name, url) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 800 } });
  const page = await context.newPage();
  const shot = (step) => page.screenshot({ path: path.join(shots, `oidc-${name}-${step}.png`), fullPage: true });
  const run = bind([process.env.PROGRAM, "kubectl-bind"], url);
  await page.goto(await run.address);
  check(`${name}: the issuer's login page`, (await page.locator("input[name=login]").count()) === 1, await page.content());
  await shot("1-login");
  await page.fill("input[name=login]", "ada");
  await page.fill("input[name=password]", "any");
  await page.locator("button[type=submit]").click();
  const consent = await page.locator("body").innerText();
  check(`${name}: the issuer's consent page names what is read`, ["profile", "email", "groups"].every((scope) => consent.includes(scope)), consent);
  await shot("2-consent");
  return { context, page, run, shot };
}

// Names of the backend's own session cookies (those of a login under way have another name).
async function sessions(context) {
  const names = (await context.cookies()).map((cookie) => cookie.name);
  return names.filter((name) => name.startsWith("kube-bind-") && !name.startsWith("kube-bind-login-"));
}

try {
  {
    const { context, page, run } = await logIn("refused", process.env.URL);
    await page.getByText("Cancel").click();
    const { code, out } = await run.ended;
    check("refused: kubectl bind ends and says who refused", code !== 0 && /access_denied|aborted/.test(out), `exit code ${code}\n${out}`);
    await context.close();
  }
  {
    const { context, page, run, shot } = await logIn("misled", process.env.MISLED_URL);
    await page.getByText("Continue").click();
    await page.waitForURL(/\/api\/callback/);
    const text = await page.locator("body").innerText();
    check("misled: a token for another audience is refused, and the page says so", /audience/i.test(text), text);
    check("misled: no session came of it", (await sessions(context)).length === 0, await sessions(context));
    await shot("3-refused");
    run.giveUp();
    await run.ended;
    await context.close();
  }
  {
    const { context, page, run, shot } = await logIn("good", process.env.URL);
    await page.getByText("Continue").click();
    const text = await page.locator("body").innerText();
    check("good: now there is a session", (await sessions(context)).length === 1, await sessions(context));
    check("good: the bind page", text.includes("Bind our Kubernetes API in no time"), text);
    await shot("3-bind");
    await page.getByRole("button", { name: /^bind/i }).first().click();
    await page.waitForLoadState();
    check("good: no credential in the address", !/binding_response|access_token/.test(page.url()), page.url());
    const { code, out } = await run.ended;
    check("good: kubectl bind ends well", code === 0, `exit code ${code}\n${out}`);
    await context.close();
  }
  console.log("oidc: ok");
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await browser.close();
  process.exit();
}
