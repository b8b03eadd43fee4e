export { type FantaConnectorOptions, fantaConnector } from "./connector.ts";
export { type Codec, binary, json, text } from "./payload.ts";
export { FantaPool, type FantaPoolOptions, type FantaPoolRequestOptions } from "./pool.ts";
export { FantaServer, type FantaServerOptions } from "./server.ts";
export type { FantaContext, FantaHandler } from "./session.ts";
export { type FantaCloseOptions, type FantaRequestOptions, FantaTCP, type FantaTCPOptions } from "./tcp.ts";
