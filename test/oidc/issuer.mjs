// An OpenID Connect issuer from npm's oidc-provider with its own login and consent pages, configured and nothing more.
// Claims are where OpenID Connect Core 5.4 has them: in the id_token only the subject, the rest at the UserInfo endpoint.
// in: PORT, CLIENTS (JSON: [{client_id, client_secret, redirect_uris}]), GROUP
// out: a line with the issuer's URL when it answers. For the client named MISLED, tokens are made out to another audience
//      with the issuer's own key: what a relying party must refuse.

import { generateKeyPair, exportJWK, decodeJwt, importJWK, SignJWT } from "jose";
import Provider from "oidc-provider";

const port = Number(process.env.PORT);
const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = await generateKeyPair("RS256", { extractable: true });
const key = { ...(await exportJWK(privateKey)), kid: "one", alg: "RS256", use: "sig" };

const provider = new Provider(issuer, {
  clients: JSON.parse(process.env.CLIENTS),
  jwks: { keys: [key] },
  cookies: { keys: [crypto.randomUUID()] },
  claims: { openid: ["sub"], profile: ["name", "preferred_username"], email: ["email"], groups: ["groups"] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: id, preferred_username: id, email: `${id}@example.com`, groups: [process.env.GROUP] }),
  }),
});

provider.use(async (ctx, next) => {
  await next();
  const misled = ctx.oidc?.route === "token" && ctx.oidc.client?.clientId === process.env.MISLED && ctx.body?.id_token;
  if (!misled) return;
  const claims = { ...decodeJwt(ctx.body.id_token), aud: "somebody-else" };
  const token = new SignJWT(claims).setProtectedHeader({ alg: "RS256", kid: "one" });
  ctx.body = { ...ctx.body, id_token: await token.sign(await importJWK(key, "RS256")) };
});

provider.on("server_error", (_, error) => console.error(error));
provider.listen(port, "127.0.0.1", () => console.log(issuer));
