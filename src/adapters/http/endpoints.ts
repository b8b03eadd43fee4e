/**
 * Where connections go to, and what they stand for.
 *
 * An endpoint is an address: `http://10.0.0.1:8080`, or `10.0.0.1:8080`. What it stands for is an origin: its own, or
 * the one that all endpoints of a dispatcher serve together. The origin's host goes into every request, and over TLS it
 * is the name that a server must prove to have; the address is only where the socket leads.
 */

import type { Endpoint, EndpointSource } from "../../connection/index.ts";
import { OptionError } from "../../errors.ts";

/** An endpoint, or only its address: `"http://10.0.0.1:8080"`, or `"10.0.0.1:8080"` for the protocol of `origin`, else HTTP. */
export type HttpEndpoint = Endpoint | string;

/** All endpoints: a fixed list, or full sets as they change. What stays keeps its connections; what is gone is drained. */
export type HttpEndpointSource = readonly HttpEndpoint[] | AsyncIterable<readonly HttpEndpoint[]>;

export interface Address {
  readonly protocol: "http:" | "https:";
  readonly hostname: string;
  /** With its port, unless that is the protocol's own; an IPv6 address in brackets. */
  readonly host: string;
  readonly port: string;
  /** What goes into the Host header: the origin served here, with the protocol that is spoken here. */
  readonly origin: string;
  /** The name that TLS is to prove; none for an address that has no name. */
  readonly servername: string | undefined;
}

/** The source in the form that a pool takes. */
export function endpointSource(source: HttpEndpointSource): EndpointSource {
  return Array.isArray(source) ? source.map(endpointOf) : named(source as AsyncIterable<readonly HttpEndpoint[]>);
}

/** @throws {OptionError} for one whose id is no address. */
export function addressOf(endpoint: Endpoint, origin: URL | undefined): Address {
  const url = urlOf(endpoint.id, origin?.protocol ?? "http:");
  if (url === undefined) {
    throw new OptionError("endpoint", 'an address: "http://10.0.0.1:8080", or "10.0.0.1:8080"', endpoint.id);
  }
  const served = origin ?? url;
  const name = bare(served.hostname);
  return {
    protocol: url.protocol as "http:" | "https:",
    hostname: bare(url.hostname),
    host: url.host,
    port: url.port,
    origin: `${url.protocol}//${served.host}`,
    servername: isAddress(name) ? undefined : name,
  };
}

/** An origin as a string, whatever it was given as. `undefined` for what is none. */
export function originOf(given: unknown): string | undefined {
  const url = given instanceof URL ? given : typeof given === "string" ? parse(given) : undefined;
  return url !== undefined && isHttp(url) ? url.origin : undefined;
}

function endpointOf(given: HttpEndpoint): Endpoint {
  return typeof given === "string" ? { id: given } : given;
}

async function* named(source: AsyncIterable<readonly HttpEndpoint[]>): AsyncIterable<readonly Endpoint[]> {
  for await (const set of source) yield Array.isArray(set) ? set.map(endpointOf) : (set as readonly Endpoint[]);
}

function urlOf(id: string, protocol: string): URL | undefined {
  const url = id.includes("://") ? parse(id) : parse(`${protocol}//${id}`);
  return url !== undefined && isHttp(url) && url.pathname === "/" && url.search === "" ? url : undefined;
}

function parse(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}

function isHttp({ protocol, hostname }: URL): boolean {
  return (protocol === "http:" || protocol === "https:") && hostname !== "";
}

/** Without the brackets of an IPv6 address. */
function bare(hostname: string): string {
  return hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
}

/** Whether a host is a number: then TLS has no name to ask for. */
function isAddress(hostname: string): boolean {
  return hostname.includes(":") || /^[\d.]+$/.test(hostname);
}
