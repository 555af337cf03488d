/** What the build makes of templates/: see build.js. */
declare module "compiled:catalogue" {
  const catalogue: import("./catalogue.ts").Catalogue;
  export default catalogue;
}

declare module "compiled:files" {
  const files: import("./catalogue.ts").TemplateFiles;
  export default files;
}

declare const VERSION: string;
