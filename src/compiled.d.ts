/** What the build makes of templates/: see build.js. */
declare module "compiled:catalogue" {
  const catalogue: import("./catalogue.ts").Catalogue;
  export default catalogue;
}

declare const VERSION: string;
