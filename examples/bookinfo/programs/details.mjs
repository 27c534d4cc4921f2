/** What is known about a book. */
import { serve } from './serve.mjs';

const books = [
  { title: 'The Switch on the Shelf', author: 'M. Weaver', year: 2019, pages: 214, language: 'English' },
  { title: 'Forty Frames a Second', author: 'A. Loom', year: 2022, pages: 388, language: 'English' },
];

serve('details', (path) => {
  const [, id] = /^\/details\/(\d+)$/.exec(path) ?? [];
  return id === undefined ? undefined : books[Number(id)];
});
