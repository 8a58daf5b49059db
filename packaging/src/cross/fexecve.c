/*
 * Takes the place of fexecve(3) in arm64 programs under emulation.
 *
 * slurmd starts prologs through a descriptor of itself that exec closes. For a program that the kernel hands to an interpreter,
 * here the emulator, it refuses that (ENOENT): the interpreter could not open the program by such a descriptor. On real arm64
 * machines there is no interpreter. So the program is started by its path.
 */
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

int fexecve(int fd, char *const argv[], char *const envp[])
{
	char link[64], path[PATH_MAX];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return -1;
	path[length] = '\0';
	return execve(path, argv, envp);
}
