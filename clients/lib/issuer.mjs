// A real authorization server, the npm library oidc-provider, on loopback, and the
// part of a browser that logs a user in at its pages.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const scopes = ['box', 'look'];

// startIssuer serves an issuer whose access tokens are JWTs for the resource at
// audience(); its clients register themselves (RFC 7591).
export async function startIssuer({ audience, life = 3600 }) {
  // The library warns of what only a test would do.
  console.info = console.warn = () => {};
  const http = createServer();
  await new Promise(done => http.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${http.address().port}`;
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const provider = new Provider(url, {
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'first', use: 'sig', alg: 'RS256' }] },
    cookies: { keys: ['a key of a test'] },
    scopes: ['openid', 'offline_access', ...scopes],
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post'],
    findAccount: (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
    ttl: { AccessToken: life, RefreshToken: 3600, Session: 3600, Interaction: 3600, Grant: 3600 },
    // Not only for offline_access, which clients that know nothing of OpenID do not ask for.
    issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
    pkce: { required: () => true },
    features: {
      registration: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience(),
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => {
          if (resource !== audience()) throw new Error(`resource ${resource}`);
          return { scope: scopes.join(' '), audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: life, jwt: { sign: { alg: 'RS256' } } };
        },
      },
    },
  });
  http.on('request', provider.callback());
  const seen = { registered: 0, authorized: [], issued: 0, refreshed: 0 };
  provider.on('registration_create.success', () => seen.registered++);
  provider.on('authorization.accepted', ctx => seen.authorized.push(ctx.oidc.params.scope));
  provider.on('grant.success', ctx => { ctx.oidc.params.grant_type === 'refresh_token' ? seen.refreshed++ : seen.issued++; });
  for (const e of ['server_error', 'authorization.error', 'grant.error', 'registration_create.error']) {
    provider.on(e, (_, err) => { seen.error = `${e}: ${err.message} ${err.error_description ?? ''}`; });
  }
  return { url, seen, stop: () => new Promise(done => { http.closeAllConnections(); http.close(done); }) };
}

// logIn is a browser without a screen: it follows an address to where the issuer sends it back,
// types the name of the user, and agrees to what the client asks for.
export async function logIn(address, user) {
  const jar = new Map();
  let request = { url: String(address) };
  for (let step = 0; step < 20; step++) {
    const { url, body } = request;
    const r = await fetch(url, {
      method: body ? 'POST' : 'GET', redirect: 'manual', body,
      headers: { cookie: [...jar].map(([k, v]) => `${k}=${v}`).join('; '), ...(body ? { 'content-type': 'application/x-www-form-urlencoded' } : {}) },
    });
    for (const c of r.headers.getSetCookie()) {
      const [, k, v] = c.match(/^([^=]+)=([^;]*)/);
      if (v) jar.set(k, v); else jar.delete(k);
    }
    if (r.status >= 300 && r.status < 400) {
      const to = new URL(r.headers.get('location'), url);
      if (to.searchParams.has('code') || to.searchParams.has('error')) return to;
      request = { url: to };
      continue;
    }
    const page = await r.text();
    const form = page.match(/<form[^>]* action="([^"]+)" method="post">/);
    if (!form) throw new Error(`the issuer shows no form: ${r.status} ${page.slice(0, 300)}`);
    const login = page.includes('name="login"');
    request = { url: new URL(form[1].replaceAll('&amp;', '&'), url), body: new URLSearchParams(login ? { prompt: 'login', login: user, password: 'any' } : { prompt: 'consent' }).toString() };
  }
  throw new Error('the issuer goes round in circles');
}
