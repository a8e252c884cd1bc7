/* What concerns the whole machine: its clock, its kernel log, its devices. */
#ifndef MACHINE_H
#define MACHINE_H

#include <sys/types.h>

#include "request.h"

/* Operations of the router. */
int machine_wake(const struct request *request, struct text *answer);
int machine_mark(const struct request *request, struct text *answer);
int machine_kernel_log(const struct request *request, struct text *answer);

/* Add every PCI function below a folder of sysfs, as a JSON array. */
int add_functions(struct text *answer, const char *folder);
/* Add what a process has open, by descriptor, as a JSON object; an empty one if it is gone. */
void add_descriptors(struct text *answer, pid_t pid);

#endif
