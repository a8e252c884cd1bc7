// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mediated device that uses its user's memory, as vfio-ccw, vfio-ap and i915 do: none of the
 * kernel's samples does. It has two regions:
 *
 * BAR0  a write of `struct order` pins or unpins pages; a read returns `struct state`.
 * BAR1  the user's memory by IOVA: reads and writes are done by the CPU with vfio_dma_rw().
 *
 * The result of an order is the result of the write.
 */
#include <linux/device.h>
#include <linux/init.h>
#include <linux/iommu.h>
#include <linux/mdev.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vfio.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#define HAS_REGION_INFO
#endif
#define NAME "pages"
#define SHIFT 44
#define REGION_BYTES (1ULL << SHIFT)
#define REGIONS 2
#define MOST_PAGES 16
#define MOST_ORDERS 16
#define MOST_BYTES (16 * PAGE_SIZE)

struct order {
	u64 iova;
	u32 count;	/* pages */
	u32 prot;	/* IOMMU_READ, IOMMU_WRITE; 0 takes an earlier order back */
};

struct state {
	u64 orders;	/* orders that were not taken back */
	u64 asked;	/* how often vfio asked for pages back */
	u64 iova;	/* what it asked for last */
	u64 length;
};

struct pages {
	struct vfio_device vdev;
	struct mutex lock;
	struct state state;
	struct order orders[MOST_ORDERS];	/* the first state.orders are in use */
};

static struct pages *to_pages(struct vfio_device *vdev)
{
	return container_of(vdev, struct pages, vdev);
}

static int pages_pin(struct pages *pages, const struct order *order)
{
	struct page *found[MOST_PAGES];
	int count;

	if (pages->state.orders == MOST_ORDERS || order->count > MOST_PAGES)
		return -ENOSPC;
	count = vfio_pin_pages(&pages->vdev, order->iova, order->count, order->prot, found);
	if (count < 0)
		return count;
	pages->orders[pages->state.orders++] = *order;
	return 0;
}

static void pages_take_back(struct pages *pages, int place)
{
	struct order *order = &pages->orders[place];

	vfio_unpin_pages(&pages->vdev, order->iova, order->count);
	*order = pages->orders[--pages->state.orders];
}

static int pages_unpin(struct pages *pages, const struct order *order)
{
	int i;

	for (i = 0; i < pages->state.orders; i++) {
		if (pages->orders[i].iova != order->iova || pages->orders[i].count != order->count)
			continue;
		pages_take_back(pages, i);
		return 0;
	}
	return -ENOENT;
}

/* Take back all orders that have a page in a range. */
static void pages_unpin_range(struct pages *pages, u64 iova, u64 length)
{
	int i;

	for (i = pages->state.orders - 1; i >= 0; i--) {
		struct order *order = &pages->orders[i];

		if (order->iova < iova + length && iova < order->iova + order->count * PAGE_SIZE)
			pages_take_back(pages, i);
	}
}

static ssize_t pages_order(struct pages *pages, const char __user *buf, size_t count)
{
	struct order order;
	int ret;

	if (count != sizeof(order))
		return -EINVAL;
	if (copy_from_user(&order, buf, sizeof(order)))
		return -EFAULT;
	mutex_lock(&pages->lock);
	if (order.prot)
		ret = pages_pin(pages, &order);
	else
		ret = pages_unpin(pages, &order);
	mutex_unlock(&pages->lock);
	return ret ?: count;
}

static ssize_t pages_state(struct pages *pages, char __user *buf, size_t count)
{
	struct state state;

	mutex_lock(&pages->lock);
	state = pages->state;
	mutex_unlock(&pages->lock);
	count = min(count, sizeof(state));
	return copy_to_user(buf, &state, count) ? -EFAULT : count;
}

static ssize_t pages_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *pos)
{
	void *data;
	int ret;

	if (*pos < REGION_BYTES)
		return pages_state(to_pages(vdev), buf, count);
	count = min(count, MOST_BYTES);
	data = kzalloc(count, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	ret = vfio_dma_rw(vdev, *pos - REGION_BYTES, data, count, false);
	if (!ret && copy_to_user(buf, data, count))
		ret = -EFAULT;
	kfree(data);
	return ret ?: count;
}

static ssize_t pages_write(struct vfio_device *vdev, const char __user *buf, size_t count,
			   loff_t *pos)
{
	void *data;
	int ret;

	if (*pos < REGION_BYTES)
		return pages_order(to_pages(vdev), buf, count);
	data = memdup_user(buf, min(count, MOST_BYTES));
	if (IS_ERR(data))
		return PTR_ERR(data);
	ret = vfio_dma_rw(vdev, *pos - REGION_BYTES, data, min(count, MOST_BYTES), true);
	kfree(data);
	return ret ?: min(count, MOST_BYTES);
}

static void pages_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
	struct pages *pages = to_pages(vdev);

	mutex_lock(&pages->lock);
	pages->state.asked++;
	pages->state.iova = iova;
	pages->state.length = length;
	pages_unpin_range(pages, iova, length);
	mutex_unlock(&pages->lock);
}

static void pages_close(struct vfio_device *vdev)
{
	struct pages *pages = to_pages(vdev);

	mutex_lock(&pages->lock);
	pages_unpin_range(pages, 0, U64_MAX);
	mutex_unlock(&pages->lock);
}

static int pages_region_info(struct vfio_device *vdev, struct vfio_region_info *info,
			     struct vfio_info_cap *caps)
{
	if (info->index >= REGIONS)
		return -EINVAL;
	info->offset = (u64)info->index << SHIFT;
	info->size = info->index ? REGION_BYTES : sizeof(struct order);
	info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	return 0;
}

static long pages_ioctl(struct vfio_device *vdev, unsigned int command, unsigned long argument)
{
	struct vfio_device_info info = { .argsz = sizeof(info), .num_regions = REGIONS };
	void __user *user = (void __user *)argument;

	if (command == VFIO_DEVICE_GET_INFO)
		return copy_to_user(user, &info, offsetofend(struct vfio_device_info, num_irqs)) ?
			       -EFAULT : 0;
#ifndef HAS_REGION_INFO
	if (command == VFIO_DEVICE_GET_REGION_INFO) {
		struct vfio_region_info region;
		int ret;

		if (copy_from_user(&region, user, sizeof(region)))
			return -EFAULT;
		ret = pages_region_info(vdev, &region, NULL);
		if (ret)
			return ret;
		return copy_to_user(user, &region, sizeof(region)) ? -EFAULT : 0;
	}
#endif
	return -ENOTTY;
}

static int pages_init_dev(struct vfio_device *vdev)
{
	mutex_init(&to_pages(vdev)->lock);
	return 0;
}

static const struct vfio_device_ops pages_ops = {
	.name = NAME,
	.init = pages_init_dev,
	.close_device = pages_close,
	.read = pages_read,
	.write = pages_write,
	.ioctl = pages_ioctl,
#ifdef HAS_REGION_INFO
	.get_region_info_caps = pages_region_info,
#endif
	.dma_unmap = pages_dma_unmap,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
#endif
};

static int pages_probe(struct mdev_device *mdev)
{
	struct pages *pages = vfio_alloc_device(pages, vdev, &mdev->dev, &pages_ops);
	int ret;

	if (IS_ERR(pages))
		return PTR_ERR(pages);
	ret = vfio_register_emulated_iommu_dev(&pages->vdev);
	if (ret)
		vfio_put_device(&pages->vdev);
	else
		dev_set_drvdata(&mdev->dev, pages);
	return ret;
}

static void pages_remove(struct mdev_device *mdev)
{
	struct pages *pages = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&pages->vdev);
	vfio_put_device(&pages->vdev);
}

static ssize_t pages_description(struct mdev_type *type, char *buf)
{
	return sysfs_emit(buf, "a device that uses its user's memory\n");
}

static struct mdev_driver pages_driver = {
	.device_api = "lab",
	.max_instances = 4,
	.driver = {
		.name = NAME,
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
	},
	.probe = pages_probe,
	.remove = pages_remove,
	.show_description = pages_description,
};

static struct mdev_type pages_type = { .sysfs_name = "1", .pretty_name = NAME };
static struct mdev_type *pages_types[] = { &pages_type };
static struct mdev_parent pages_parent;
static struct device *pages_device;
static struct class pages_class = { .name = NAME };

static int __init pages_init(void)
{
	int ret = mdev_register_driver(&pages_driver);

	if (ret)
		return ret;
	ret = class_register(&pages_class);
	if (ret)
		goto err_driver;
	pages_device = device_create(&pages_class, NULL, 0, NULL, NAME);
	ret = PTR_ERR_OR_ZERO(pages_device);
	if (ret)
		goto err_class;
	ret = mdev_register_parent(&pages_parent, pages_device, &pages_driver, pages_types,
				   ARRAY_SIZE(pages_types));
	if (!ret)
		return 0;
	device_unregister(pages_device);
err_class:
	class_unregister(&pages_class);
err_driver:
	mdev_unregister_driver(&pages_driver);
	return ret;
}

static void __exit pages_exit(void)
{
	mdev_unregister_parent(&pages_parent);
	device_unregister(pages_device);
	class_unregister(&pages_class);
	mdev_unregister_driver(&pages_driver);
}

module_init(pages_init)
module_exit(pages_exit)
MODULE_DESCRIPTION("a mediated device that uses its user's memory");
MODULE_LICENSE("GPL");
