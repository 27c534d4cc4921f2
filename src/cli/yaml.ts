/** In a file of its own, so that the library is loaded only to print YAML. */
export { stringify } from 'yaml';
