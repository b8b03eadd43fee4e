export type { HttpConnection } from "./connection.ts";
export { HttpDispatcher } from "./dispatcher.ts";
export type { HttpEndpoint, HttpEndpointSource } from "./endpoints.ts";
export type { HttpDispatcherOptions } from "./options.ts";
