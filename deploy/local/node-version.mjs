/**
 * Imported first by every set-up script: one sentence instead of a stack trace on a Node that is too old.
 * The scripts beside it therefore keep to syntax and imports that an old Node can still load.
 */
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(
    `roboflow-worker needs Node 20.19 or newer, this is ${process.versions.node}: install a current one from https://nodejs.org or with your version manager.\n`,
  );
  process.exit(1);
}
