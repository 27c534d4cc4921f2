/** The host's name servers, from its resolv.conf, which is read again whenever it changes (inotify(7)). */
import { readFileSync, realpathSync, watch, type FSWatcher } from 'node:fs';
import { dirname } from 'node:path';
import { isIP } from 'node:net';

const RESOLV_CONF = '/etc/resolv.conf';
/** Where systemd-resolved writes whom it asks itself. Its own address is not asked: it may ask weft. */
const BEHIND_STUB = '/run/systemd/resolve/resolv.conf';
const STUBS: readonly string[] = ['127.0.0.53', '127.0.0.54'];
/** As many as the C library asks (resolv.conf(5)). */
const MOST_SERVERS = 3;
/** Files are often written in several steps. */
const SETTLE_MS = 100;

/** @returns the addresses of its name servers, without stubs of systemd-resolved */
export function readNameServers(text: string): string[] {
  const given = [...text.matchAll(/^[ \t]*nameserver[ \t]+(\S+)/gm)].map(([, address = '']) => address);
  return given.filter((address) => isIP(address) !== 0 && !STUBS.includes(address)).slice(0, MOST_SERVERS);
}

export class NameServers {
  readonly #after: (delayMs: number, work: () => void) => () => void;
  readonly #onChange: (addresses: readonly string[]) => void;
  #watchers: FSWatcher[] = [];
  #isPlanned = false;
  #addresses: readonly string[] = [];

  /** @param onChange is called with the first ones, too */
  constructor(
    after: (delayMs: number, work: () => void) => () => void,
    onChange: (addresses: readonly string[]) => void,
  ) {
    this.#after = after;
    this.#onChange = onChange;
    this.#read();
  }

  #read(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
    // The files are watched before they are read, and their folders, because others are put in their place.
    this.#watch(RESOLV_CONF);
    const own = read(RESOLV_CONF);
    let addresses = readNameServers(own);
    if (addresses.length === 0 && /nameserver/.test(own)) {
      this.#watch(BEHIND_STUB);
      addresses = readNameServers(read(BEHIND_STUB));
    }
    if (addresses.join() === this.#addresses.join()) return;
    this.#addresses = addresses;
    this.#onChange(addresses);
  }

  #watch(path: string): void {
    const places = new Set([path, dirname(path)]);
    try {
      places.add(dirname(realpathSync(path)));
    } catch {
      // It may come later.
    }
    for (const place of places) {
      try {
        const watcher = watch(place, { persistent: false }, () => this.#readSoon());
        watcher.on('error', () => watcher.close());
        this.#watchers.push(watcher);
      } catch {
        // What is not there is noticed by its folder.
      }
    }
  }

  #readSoon(): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    this.#after(SETTLE_MS, () => {
      this.#isPlanned = false;
      this.#read();
    });
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
