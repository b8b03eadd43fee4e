/** What the types of `effect` take for granted of a browser. Nothing here is used. */
interface CryptoKey {}
interface JsonWebKey {}
interface Storage {}
