import { normalizeName } from "./tool.ts";

/**
 * Why a name cannot be a project's name; undefined where it can. It is the distribution's name and that of its
 * command, so it must not hide a package that any stack installs (`taken`), whichever tools are chosen today.
 */
export function refuseName(name: string, taken: ReadonlySet<string>): string | undefined {
  if (name === "") return "it is empty";
  if (!isDistribution(name)) {
    return "a Python distribution has letters, digits, '-', '_' and '.' only, and starts and ends with a letter or digit";
  }
  const stem = name.toLowerCase().split(".")[0] ?? "";
  const normalized = normalizeName(name);
  if (WINDOWS.test(stem)) return "Windows reserves it for a device";
  if (KEYWORDS.has(normalized)) return "it is a keyword of Python";
  if (STANDARD_LIBRARY.has(normalized.replaceAll("-", "_"))) return "it is a module of Python's standard library";
  if (COMMANDS.has(normalized)) return "a command or package of that name already exists in every project";
  if (OWN_COMMANDS.has(normalized)) return "it is a command of create-ai-stack";
  if (taken.has(normalized)) return "a dependency of the project has that name";
  return undefined;
}

export function isDistribution(name: string): boolean {
  return DISTRIBUTION.test(name);
}

/** A valid name close to the refused one. */
export function suggestName(name: string, taken: ReadonlySet<string>): string {
  const plain = name
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .toLowerCase()
    .replace(/[-_.]{2,}/g, "-")
    .replace(/^[-_.]+|[-_.]+$/g, "");
  const near = plain === "" ? [] : [plain, plain.endsWith("app") ? "" : `${plain}-app`, `my-${plain}`];
  const candidates = [...near, "my-app", "my-ai-app", "my-own-ai-app"];
  const valid = candidates.find((candidate) => refuseName(candidate, taken) === undefined);
  if (valid === undefined) throw new Error(`no valid name near "${name}"`);
  return valid;
}

const DISTRIBUTION = /^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?$/i;
const WINDOWS = /^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])$/;

const KEYWORDS = words(`
  and as assert async await break class continue def del elif else except false finally for from global if import in
  is lambda none nonlocal not or pass raise return true try while with yield`);

const OWN_COMMANDS = words("doctor help list mcp swap update verify");

// The generated package, and what an environment's folder of executables has in any case.
const COMMANDS = words(
  "activate activate-this app deactivate easy-install pip pip3 python python3 pythonw test tests uv uvw uvx wheel",
);

// sys.stdlib_module_names of Python 3.11 to 3.14, without the private ones.
const STANDARD_LIBRARY = words(`
  abc aifc annotationlib antigravity argparse array ast asynchat asyncio asyncore atexit audioop base64 bdb binascii
  bisect builtins bz2 calendar cgi cgitb chunk cmath cmd code codecs codeop collections colorsys compileall
  compression concurrent configparser contextlib contextvars copy copyreg cProfile crypt csv ctypes curses dataclasses
  datetime dbm decimal difflib dis distutils doctest email encodings ensurepip enum errno faulthandler fcntl filecmp
  fileinput fnmatch fractions ftplib functools gc genericpath getopt getpass gettext glob graphlib grp gzip hashlib
  heapq hmac html http idlelib imaplib imghdr imp importlib inspect io ipaddress itertools json keyword lib2to3
  linecache locale logging lzma mailbox mailcap marshal math mimetypes mmap modulefinder msilib msvcrt multiprocessing
  netrc nis nntplib nt ntpath nturl2path numbers opcode operator optparse os ossaudiodev pathlib pdb pickle
  pickletools pipes pkgutil platform plistlib poplib posix posixpath pprint profile pstats pty pwd py_compile pyclbr
  pydoc pydoc_data pyexpat queue quopri random re readline reprlib resource rlcompleter runpy sched secrets select
  selectors shelve shlex shutil signal site smtpd smtplib sndhdr socket socketserver spwd sqlite3 sre_compile
  sre_constants sre_parse ssl stat statistics string stringprep struct subprocess sunau symtable sys sysconfig syslog
  tabnanny tarfile telnetlib tempfile termios textwrap this threading time timeit tkinter token tokenize tomllib trace
  traceback tracemalloc tty turtle turtledemo types typing unicodedata unittest urllib uu uuid venv warnings wave
  weakref webbrowser winreg winsound wsgiref xdrlib xml xmlrpc zipapp zipfile zipimport zlib zoneinfo`);

function words(text: string): ReadonlySet<string> {
  return new Set(text.toLowerCase().trim().split(/\s+/));
}
